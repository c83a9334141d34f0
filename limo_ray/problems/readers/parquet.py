"""Parquet, a row group at a time; a damaged row group costs that group only."""

from collections.abc import Iterator
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.core.text import first_line
from limo_ray.problems.columns import InvalidRow
from limo_ray.problems.readers import lines
from limo_ray.problems.readers.base import File, Record, Result, Span, Unreadable

BATCH = 1_000  # rows decoded at once


def spans(file: File) -> Iterator[Span]:
    """One span for each row group; one in all where the file cannot be opened."""
    try:
        with _open(file) as opened:
            meta = opened.metadata
            sizes = [meta.row_group(g).num_rows for g in range(meta.num_row_groups)]
    except (OSError, pa.ArrowException):
        sizes = [0]  # whoever reads it says what is wrong
    for group, rows_before in enumerate(accumulate(sizes[:-1], initial=0)):
        yield Span(group, group + 1, rows_before + 1)


def _open(file: File) -> pq.ParquetFile:
    filesystem, path = file.open()
    return pq.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True)


def read(file: File, columns: set[str] | None, span: Span) -> Iterator[Result]:
    """The rows of a span's row group, with those of the columns that the file has."""
    row = 0  # the next one; 0, the file as a whole, while it is not open
    try:
        with _open(file) as opened:
            if not opened.metadata.num_row_groups:
                return
            row = span.line
            names = opened.schema_arrow.names
            names = [name for name in names if columns is None or name in columns]
            if not names:
                rows = opened.metadata.row_group(span.begin).num_rows
                yield from (Record(row + i, {}) for i in range(rows))
                return
            for batch in opened.iter_batches(BATCH, row_groups=[span.begin], columns=names):
                for result in _results(batch, row):
                    yield result
                    row += 1
    except (OSError, pa.ArrowException) as e:
        lines.raise_unless_readable(file)
        where = f" in row group {span.begin}" if row else ""
        yield Unreadable(row, InvalidRow("file", f"damaged{where}: {first_line(e)}", file.name))


def _results(batch: pa.RecordBatch, first: int) -> Iterator[Result]:
    for i, column in enumerate(batch.columns):
        if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
            # By way of text: 0.1 and not 0.10000000149011612.
            exact = pc.cast(pc.cast(column, pa.string()), pa.float64())
            batch = batch.set_column(i, batch.schema.names[i], exact)
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError as e:
        if batch.num_rows > 1:
            for i in range(batch.num_rows):
                yield from _results(batch.slice(i, 1), first + i)
            return
        byte = e.object[e.start]
        error = InvalidRow("line", f"not UTF-8: byte 0x{byte:02x} at {e.start}", e.object)
        yield Unreadable(first, error)
        return
    for row, value in enumerate(values, first):
        yield Record(row, value)
