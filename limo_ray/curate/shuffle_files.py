"""How keys cross from the tasks that read rows to those that compare them: through files.

Each part of the pool leaves one Arrow file of keys, with one record batch per bucket, so that the
task of a bucket reads its own batch of every part and nothing else. Writing is one task's work
and reading another's: nothing waits in memory, and what is written is there after a crash.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.storage.store import Store


def write_buckets(
    work: Store, name: str, table: pa.Table, bucket: np.ndarray, buckets: int
) -> None:
    """Write an Arrow file with one record batch per bucket, `bucket` (n,) giving each row's."""
    places = np.argsort(bucket, kind="stable")
    table = table.take(places).combine_chunks()
    ends = np.searchsorted(bucket[places], np.arange(buckets), side="right")
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")  # places are mostly the same file names
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        begin = 0
        for end in ends.tolist():
            piece = table.slice(begin, end - begin)
            batches = piece.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
            writer.write_batch(batches[0])
            begin = end
    work.write_bytes(name, sink.getvalue())


def read_bucket(work: Store, name: str, bucket: int) -> pa.Table:
    """One bucket of such a file."""
    with work.filesystem.open_input_file(work.path(name)) as file:
        return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(bucket)])


def numbered(table: pa.Table, begin: int) -> pa.Table:
    """The table with row numbers that count from the first part on."""
    rows = pc.add(pc.cast(table["row"], pa.int64()), begin)
    return table.set_column(table.schema.get_field_index("row"), "row", rows)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts in order, and the number of the first row of each."""

    names: list[str]
    begins: list[int]
    rows: int

    @classmethod
    def of(cls, work: Store, pieces: list[str]) -> "Parts":
        names, begins, rows = [], [], 0
        for piece in pieces:
            for i, size in enumerate(work.read_json(f"done/{piece}.json")):
                names.append(f"{piece}-{i:05d}")
                begins.append(rows)
                rows += size
        return cls(names, begins, rows)

    def holding(self, rows: np.ndarray) -> list[int]:
        """The parts that some of the rows, sorted, are in."""
        return np.unique(np.searchsorted(self.begins, rows, side="right") - 1).tolist()

    def read(self, work: Store, folder: str, bucket: int) -> pa.Table:
        """One bucket of all parts' files in a folder, rows numbered over all parts."""
        return pa.concat_tables(
            numbered(read_bucket(work, f"{folder}/{name}.arrow", bucket), begin)
            for name, begin in zip(self.names, self.begins, strict=True)
        )

    def within(self, part: int, rows: np.ndarray) -> slice:
        """Which of the rows, sorted, are in the part."""
        ends = [*self.begins, self.rows]
        begin, end = np.searchsorted(rows, [self.begins[part], ends[part + 1]])
        return slice(int(begin), int(end))
