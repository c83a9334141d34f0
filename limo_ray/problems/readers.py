"""Files to records: JSONL, JSON arrays, CSV and Parquet, local or in object stores, damaged or not.

A reader yields (line, record), where a record that cannot be read is an InvalidRow in its place:
lines count from 1 (for CSV the physical line a record starts on, for Parquet and JSON arrays the
row), and 0 stands for the file as a whole. What is wrong with the data becomes an InvalidRow; what
is wrong with the way to it (file gone, no permission, network) is raised, so that no problem is
lost to a bad minute of an object store.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from limo_ray.core.text import first_line
from limo_ray.core.uris import open_uri
from limo_ray.problems.columns import InvalidRow

LONGEST_LINE = 8 * 2**20  # bytes; a longer line is a file without line breaks
CHUNK = 2**20  # bytes read at once
BATCH = 1_000  # rows of Parquet decoded at once

FORMATS = ("parquet", "jsonl", "json", "csv")
_ENDINGS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_ENDINGS[".csv"] = "csv"
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that were no UTF-8
_TOO_LONG = "\ud800"  # stands for a line that was longer than LONGEST_LINE, in no real text

Record = tuple[int, Any]


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


def records(file: File, columns: set[str], begin: int, end: int, line: int) -> Iterator[Record]:
    """The records of one part of a file, as `parts` cut it; `line` is the first one's."""
    if file.format == "parquet":
        yield from _parquet(file, columns, begin, line)
    elif file.format == "csv":
        yield from _csv(file)
    elif file.format == "json" and end < 0:
        yield from _array(file)
    else:
        yield from _jsonl(file, begin, end, line)


def parts(file: File, target: int) -> Iterator[tuple[int, int, int]]:
    """(begin, end, first line) of parts that can be read in parallel, of about `target` bytes.

    Row groups of Parquet (begin is the group); ranges of bytes that end at a line break for JSONL,
    with the lines before each counted on the way. All else is one part, (0, -1, 1).
    """
    if file.format == "parquet":
        try:
            with _open_parquet(file) as opened:
                meta = opened.metadata
                sizes = [meta.row_group(g).num_rows for g in range(meta.num_row_groups)]
        except (OSError, pa.ArrowException):
            sizes = [0]  # whoever reads it says what is wrong
        for group, rows_before in enumerate(accumulate(sizes[:-1], initial=0)):
            yield group, group + 1, rows_before + 1
        return
    packed_or_csv = bool(file.packed) or file.format == "csv"
    if packed_or_csv or (file.format == "json" and _starts_with(file, b"[")):
        # A packed .json file is read line by line or as an array, as it turns out.
        yield 0, -1, 1
        return
    size = file.info().size
    if size is None or size <= 2 * target:
        yield 0, -1 if size is None else size, 1
        return
    filesystem, path = file.open()
    begin, line, counted, end = 0, 1, 0, 0
    with filesystem.open_input_file(path) as stream:
        while chunk := stream.read(min(CHUNK, target)):
            last = chunk.rfind(b"\n")
            if end + last + 1 - begin >= target and last >= 0:
                yield begin, end + last + 1, line
                line += counted + chunk.count(b"\n", 0, last + 1)
                begin, counted = end + last + 1, 0
            else:
                counted += chunk.count(b"\n")
            end += len(chunk)
    if begin < end:
        yield begin, end, line


def _starts_with(file: File, mark: bytes) -> bool:
    filesystem, path = file.open()
    with filesystem.open_input_stream(path, compression=None) as stream:
        return stream.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(mark)


# Text


def _chunks(file: File, begin: int = 0, end: int = -1) -> Iterator[bytes]:
    """Unpacked bytes; InvalidRow where the file is damaged (a truncated .gz, a bad checksum)."""
    filesystem, path = file.open()
    if end >= 0:
        with filesystem.open_input_file(path) as source:
            source.seek(begin)
            while begin < end and (chunk := source.read(min(CHUNK, end - begin))):
                begin += len(chunk)
                yield chunk
        return
    with filesystem.open_input_stream(path, compression=file.packed or None) as stream:
        while True:
            try:
                chunk = stream.read(CHUNK)
            except OSError as e:
                _raise_unless_readable(file)
                raise InvalidRow("file", f"damaged: {e}", file.name) from e
            if not chunk:
                return
            yield chunk


def _raise_unless_readable(file: File) -> None:
    """Tell damage from a failing disk or network: read the stored bytes once more, to the end."""
    filesystem, path = file.open()
    with filesystem.open_input_stream(path, compression=None) as stream:
        while stream.read(CHUNK):
            pass


def _lines(chunks: Iterator[bytes], line: int) -> Iterator[tuple[int, bytes | InvalidRow]]:
    r"""Numbered lines without their b"\n": the only line break, for strings hold Unicode ones."""
    rest, long = b"", False
    try:
        for chunk in chunks:
            *whole, rest = (rest + chunk).split(b"\n")
            for raw in whole:
                yield line, _too_long() if long or len(raw) > LONGEST_LINE else raw
                line, long = line + 1, False
            if len(rest) > LONGEST_LINE:
                rest, long = b"", True
    except InvalidRow as e:
        yield line, e
        return
    if rest or long:
        yield line, _too_long() if long else rest


def _too_long() -> InvalidRow:
    return InvalidRow("line", f"longer than {LONGEST_LINE:,} bytes")


def _jsonl(file: File, begin: int = 0, end: int = -1, line: int = 1) -> Iterator[Record]:
    for number, raw in _lines(_chunks(file, begin, end), line):
        if isinstance(raw, InvalidRow):
            yield number, raw
            continue
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if raw.strip():
            yield number, parse(raw)


def parse(raw: bytes) -> Any:
    """One JSON text, or the InvalidRow that says why it is none."""
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError as e:
        return InvalidRow("line", f"not UTF-8: byte 0x{raw[e.start]:02x} at {e.start}", raw)
    except json.JSONDecodeError as e:
        return InvalidRow("line", f"not JSON: {e.msg} at {e.pos}", raw)
    except RecursionError:
        return InvalidRow("line", "not JSON that can be read: nested too deeply", raw)
    except ValueError as e:  # an integer of more than 4,300 digits
        return InvalidRow("line", f"not JSON that can be read: {e}", raw)


def _array(file: File) -> Iterator[Record]:
    """A file that is one JSON array, record by record; or, packed and unseen so far, JSONL."""
    try:
        data = b"".join(_chunks(file)).removeprefix(codecs.BOM_UTF8)
    except InvalidRow as e:
        yield 0, e
        return
    if not data.lstrip().startswith(b"["):
        for number, raw in _lines(iter([data]), 1):
            if isinstance(raw, InvalidRow) or raw.strip():
                yield number, raw if isinstance(raw, InvalidRow) else parse(raw)
        return
    found = parse(data)
    if isinstance(found, list):
        yield from enumerate(found, 1)
    else:
        yield 0, found


def _csv(file: File) -> Iterator[Record]:
    """Records of a CSV file with a header, as dicts of text."""
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_csv_lines(file), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except InvalidRow as e:
            yield line, e
            return
        except csv.Error as e:
            yield line, InvalidRow("line", f"not CSV: {e}")
            continue
        if not fields:
            continue
        if header is None:
            header = fields
            if len(set(header)) < len(header):
                yield 0, InvalidRow("file", "two columns of one name in the header", header)
                return
            continue
        yield line, _csv_record(header, fields)
    if header is None:
        yield 0, InvalidRow("file", "no header line", file.name)


def _csv_lines(file: File) -> Iterator[str]:
    for number, raw in _lines(_chunks(file), 1):
        if isinstance(raw, InvalidRow):
            if raw.field == "file":
                raise raw
            yield _TOO_LONG + "\n"
            continue
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        yield raw.decode(errors="surrogateescape") + "\n"


def _csv_record(header: list[str], fields: list[str]) -> Any:
    for name, value in zip(header, fields, strict=False):
        if bad := _ESCAPED.search(value):
            byte = ord(bad[0]) - 0xDC00
            return InvalidRow(name, f"not UTF-8: byte 0x{byte:02x} at {bad.start()}", value)
        if _TOO_LONG in value:
            return _too_long()
    if len(fields) != len(header):
        return InvalidRow("line", f"{len(fields)} fields, {len(header)} in the header", fields)
    return dict(zip(header, fields, strict=True))


# Parquet


def _open_parquet(file: File) -> pq.ParquetFile:
    filesystem, path = file.open()
    return pq.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True)


def _parquet(file: File, columns: set[str], group: int, line: int) -> Iterator[Record]:
    at = 0  # of the first row not yet given; the file as a whole while it is not open
    try:
        with _open_parquet(file) as opened:
            if not opened.metadata.num_row_groups:
                return
            at = line
            names = [name for name in opened.schema_arrow.names if name in columns]
            if not names:
                rows = opened.metadata.row_group(group).num_rows
                yield from ((line + i, {}) for i in range(rows))
                return
            for batch in opened.iter_batches(BATCH, row_groups=[group], columns=names):
                for record in _rows(batch):
                    yield at, record
                    at += 1
    except (OSError, pa.ArrowException) as e:
        _raise_unless_readable(file)
        where = f" in row group {group}" if at else ""
        yield at, InvalidRow("file", f"damaged{where}: {first_line(e)}", file.name)


def _rows(batch: pa.RecordBatch) -> list[Any]:
    for i, column in enumerate(batch.columns):
        if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
            # By way of text: 0.1 and not 0.10000000149011612.
            exact = pc.cast(pc.cast(column, pa.string()), pa.float64())
            batch = batch.set_column(i, batch.schema.names[i], exact)
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as e:
        if batch.num_rows > 1:
            return [row for i in range(batch.num_rows) for row in _rows(batch.slice(i, 1))]
        byte = e.object[e.start]
        return [InvalidRow("line", f"not UTF-8: byte 0x{byte:02x} at {e.start}", e.object)]
