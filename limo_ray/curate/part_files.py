"""Many small tables as few Parquet files: the driver holds one, however many rows there are."""

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from limo_ray.storage.patience import patiently
from limo_ray.storage.store import Store


def gather(tables: Iterator[pa.Table], rows: int, nbytes: int = 2**30) -> Iterator[pa.Table]:
    """Tables of at least so many rows or bytes, the last one smaller; none without rows."""
    held: list[pa.Table] = []
    held_rows = held_bytes = 0
    for table in tables:
        held.append(table)
        held_rows, held_bytes = held_rows + len(table), held_bytes + table.nbytes
        if held_rows >= rows or held_bytes >= nbytes:
            yield pa.concat_tables(held).combine_chunks()
            held, held_rows, held_bytes = [], 0, 0
    if held_rows:
        yield pa.concat_tables(held).combine_chunks()


def write_parts(folder: Store, tables: Iterator[pa.Table]) -> None:
    """Writes each table to a file part-*.parquet of its own; waits for a store that is away."""
    for part, table in enumerate(tables):
        name = f"part-{part:06d}.parquet"
        patiently(partial(folder.write_table, name, table), f"{folder.shown}/{name}")
