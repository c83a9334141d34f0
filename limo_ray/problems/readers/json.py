"""A .json file: one JSON array, or JSON Lines under that name."""

import codecs
from collections.abc import Iterator

from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.readers import jsonl, lines
from limo_ray.problems.readers.base import File, Record, Result, Unreadable


def is_array(file: File) -> bool:
    """Whether a file that is not packed begins as an array."""
    filesystem, path = file.open()
    with filesystem.open_input_stream(path, compression=None) as stream:
        return _begins_array(stream.read(4096).removeprefix(codecs.BOM_UTF8))


def _begins_array(text: bytes) -> bool:
    return text.lstrip().startswith(b"[")


def read(file: File) -> Iterator[Result]:
    """An array record by record; or, packed and unseen so far, JSON Lines."""
    try:
        text = b"".join(lines.chunks(file)).removeprefix(codecs.BOM_UTF8)
        if not _begins_array(text):
            yield from jsonl.records(iter([text]))
            return
        for row, value in enumerate(jsonl.parse(text), 1):
            yield Record(row, value)
    except InvalidRow as error:
        yield Unreadable(0, error)
