"""JSON Lines: one JSON text a line, blank lines left out."""

import json
from collections.abc import Iterator
from typing import Any

from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.readers import lines
from limo_ray.problems.readers.base import WHOLE, File, Record, Result, Span, Unreadable


def read(file: File, span: Span) -> Iterator[Result]:
    """The records of a span, as `spans` cut it."""
    return records(lines.chunks(file, span), span.line)


def records(source: Iterator[bytes], first: int = 1) -> Iterator[Result]:
    """The records of text whose first line is number `first`."""
    for line in lines.lines(source, first):
        if isinstance(line, Unreadable):
            yield line
        elif line.raw.strip():
            try:
                yield Record(line.number, parse(line.raw))
            except InvalidRow as error:
                yield Unreadable(line.number, error)


def parse(raw: bytes) -> Any:
    """One JSON text; InvalidRow says why it is none."""
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError as e:
        raise InvalidRow("line", f"not UTF-8: byte 0x{raw[e.start]:02x} at {e.start}", raw) from e
    except json.JSONDecodeError as e:
        raise InvalidRow("line", f"not JSON: {e.msg} at {e.pos}", raw) from e
    except RecursionError as e:
        raise InvalidRow("line", "not JSON that can be read: nested too deeply", raw) from e
    except ValueError as e:  # an integer of more than 4,300 digits
        raise InvalidRow("line", f"not JSON that can be read: {e}", raw) from e


def spans(file: File, target: int) -> Iterator[Span]:
    """Ranges of about `target` bytes that end at a line break, the lines before each counted."""
    size = file.info().size
    if size is None or size <= 2 * target:
        yield WHOLE._replace(end=size)
        return
    filesystem, path = file.open()
    begin, line, counted, end = 0, 1, 0, 0
    with filesystem.open_input_file(path) as stream:
        while chunk := stream.read(min(lines.CHUNK, target)):
            last = chunk.rfind(b"\n")
            if end + last + 1 - begin >= target and last >= 0:
                yield Span(begin, end + last + 1, line)
                line += counted + chunk.count(b"\n", 0, last + 1)
                begin, counted = end + last + 1, 0
            else:
                counted += chunk.count(b"\n")
            end += len(chunk)
    if begin < end:
        yield Span(begin, end, line)
