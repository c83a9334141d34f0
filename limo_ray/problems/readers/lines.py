"""The bytes of a text file, unpacked, and its lines."""

import codecs
from collections.abc import Iterator
from typing import NamedTuple

from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.readers.base import WHOLE, File, Span, Unreadable

LONGEST_LINE = 8 * 2**20  # bytes; a longer line is a file without line breaks
CHUNK = 2**20  # bytes read at once


class Line(NamedTuple):
    number: int  # from 1
    raw: bytes  # without the line break, and without the byte order mark of line 1


def chunks(file: File, span: Span = WHOLE) -> Iterator[bytes]:
    """Unpacked bytes; InvalidRow where the file is damaged (a truncated .gz, a bad checksum)."""
    filesystem, path = file.open()
    if span.end is not None:
        left = span.end - span.begin
        with filesystem.open_input_file(path) as source:
            source.seek(span.begin)
            while left > 0 and (chunk := source.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
        return
    with filesystem.open_input_stream(path, compression=file.packed or None) as stream:
        while True:
            try:
                chunk = stream.read(CHUNK)
            except OSError as e:
                raise_unless_readable(file)
                raise InvalidRow("file", f"damaged: {e}", file.name) from e
            if not chunk:
                return
            yield chunk


def raise_unless_readable(file: File) -> None:
    """Tell damage from a failing disk or network: read the stored bytes once more, to the end."""
    filesystem, path = file.open()
    with filesystem.open_input_stream(path, compression=None) as stream:
        while stream.read(CHUNK):
            pass


def lines(source: Iterator[bytes], first: int = 1) -> Iterator[Line | Unreadable]:
    r"""Numbered lines. b"\n" is the only line break, for strings hold Unicode ones.

    A line that is too long is Unreadable, and the last one of a damaged file.
    """
    rest, skipping, number = b"", False, first
    try:
        for chunk in source:
            *whole, rest = (rest + chunk).split(b"\n")
            for raw in whole:
                yield _line(number, raw, skipping)
                number, skipping = number + 1, False
            if len(rest) > LONGEST_LINE:
                rest, skipping = b"", True
    except InvalidRow as e:
        yield Unreadable(number, e)
        return
    if rest or skipping:
        yield _line(number, rest, skipping)


def _line(number: int, raw: bytes, too_long: bool) -> Line | Unreadable:
    if too_long or len(raw) > LONGEST_LINE:
        return Unreadable(number, InvalidRow("line", f"longer than {LONGEST_LINE:,} bytes"))
    return Line(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)
