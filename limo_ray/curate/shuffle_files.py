"""How keys get from the tasks that read rows to those that compare them: through files.

Each shard of the pool leaves one Arrow file of keys, with one record batch per bucket, so that the
task of a bucket reads its own batch of every shard and nothing else. Nothing waits in memory, and
what is written is there after a crash.
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
    by_bucket = np.argsort(bucket, kind="stable")
    table = table.take(by_bucket).combine_chunks()
    ends = np.searchsorted(bucket[by_bucket], np.arange(buckets), side="right")
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")  # origins are mostly the same file names
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        begin = 0
        for end in ends.tolist():
            batches = table.slice(begin, end - begin).to_batches()
            writer.write_batch(
                batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
            )
            begin = end
    work.write_bytes(name, sink.getvalue())


def read_bucket(work: Store, name: str, bucket: int) -> pa.Table:
    """One bucket of such a file."""
    with work.filesystem.open_input_file(work.path(name)) as file:
        return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(bucket)])


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of the pool in order, the number of the first row of each, and of all rows."""

    names: list[str]
    begins: list[int]
    rows: int

    @classmethod
    def of(cls, work: Store, items: list[str]) -> "Shards":
        """Those that the reading step made of the work items with these names."""
        names, begins, rows = [], [], 0
        for item in items:
            for i, size in enumerate(work.read_json(f"done/{item}.json")):
                names.append(f"{item}-{i:05d}")
                begins.append(rows)
                rows += size
        return cls(names, begins, rows)

    def holding(self, rows: np.ndarray) -> list[int]:
        """The shards that some of the rows, sorted, are in."""
        return np.unique(np.searchsorted(self.begins, rows, side="right") - 1).tolist()

    def slice_of(self, shard: int, rows: np.ndarray) -> slice:
        """Which of the rows, sorted, are in the shard."""
        ends = [*self.begins, self.rows]
        begin, end = np.searchsorted(rows, [self.begins[shard], ends[shard + 1]])
        return slice(int(begin), int(end))

    def read_bucket(self, work: Store, folder: str, bucket: int) -> pa.Table:
        """One bucket of all shards' files in a folder, `row` counted over all shards."""
        tables = []
        for name, begin in zip(self.names, self.begins, strict=True):
            table = read_bucket(work, f"{folder}/{name}.arrow", bucket)
            rows = pc.add(pc.cast(table["row"], pa.int64()), begin)
            index = table.schema.get_field_index("row")
            tables.append(table.set_column(index, "row", rows))
        return pa.concat_tables(tables)
