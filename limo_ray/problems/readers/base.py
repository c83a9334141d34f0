"""What all readers share: the file to read, a range of it, and what reading gives."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.fs as pafs

from limo_ray.core.uris import open_uri
from limo_ray.problems.columns import InvalidRow

FORMATS = ("parquet", "jsonl", "json", "csv")
_ENDINGS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_ENDINGS[".csv"] = "csv"
_PACKED = {".gz": "gzip", ".zst": "zstd"}


class Record(NamedTuple):
    """One record of a file; `line` counts from 1.

    For CSV it is the physical line that the record starts on, for Parquet and JSON arrays the row.
    """

    line: int
    value: Any


class Unreadable(NamedTuple):
    """A record that cannot be read, in its place; line 0 is the file as a whole."""

    line: int
    error: InvalidRow


Result = Record | Unreadable


class Span(NamedTuple):
    """A range of a file: bytes, or row groups of Parquet; to the file's end where `end` is None."""

    begin: int
    end: int | None
    line: int  # of its first record


WHOLE = Span(0, None, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file to read: its URI, the name it has in the ledger, and how it is to be read."""

    uri: str
    name: str
    format: str
    packed: str = ""

    def open(self) -> tuple[pafs.FileSystem, str]:
        """Its file system and the path there."""
        return open_uri(self.uri)

    def info(self) -> pafs.FileInfo:
        """Its size in bytes as stored, and when it was changed."""
        filesystem, path = self.open()
        return filesystem.get_file_info(path)


def describe(uri: str, name: str, format: str = "") -> File | None:
    """The File for a path, by its ending; None when nothing says what it is."""
    stem, packed = uri.partition("?")[0], ""
    for ending, codec in _PACKED.items():
        if stem.endswith(ending):
            stem, packed = stem.removesuffix(ending), codec
    found = format or next((f for ending, f in _ENDINGS.items() if stem.endswith(ending)), "")
    if not found or (found == "parquet" and packed):
        return None
    return File(uri=uri, name=name, format=found, packed=packed)
