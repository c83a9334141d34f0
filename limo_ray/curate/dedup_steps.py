"""Exact and near-duplicates of the whole pool, bucket by bucket (see `pool.py` for the order).

Every function does one work item of a step and returns the rows that it handled.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from limo_ray.curate.dedup import duplicates
from limo_ray.curate.read_step import PoolSettings, has_solution
from limo_ray.curate.shuffle_files import Shards, read_bucket, write_buckets
from limo_ray.problems import near_duplicates
from limo_ray.problems.answer_check import same_gold_answer
from limo_ray.problems.drop_reasons import DROPPED
from limo_ray.problems.problem_rows import ORIGIN
from limo_ray.problems.text_features import Features
from limo_ray.storage.store import Store


def find_exact(bucket: int, shards: Shards, settings: PoolSettings, work: Store) -> int:
    """Of all ids of a bucket the rows that ask the same question: which go, and why."""
    ids = _with_long_answers(shards.read_bucket(work, "ids", bucket), shards, work)
    names = [source.name for source in settings.sources]
    dropped = duplicates(ids, names, same_gold_answer)
    work.write_table(f"exact/{bucket:05d}.parquet", dropped)
    return ids.num_rows


def _with_long_answers(ids: pa.Table, shards: Shards, work: Store) -> pa.Table:
    """The long gold answers put in, of rows whose id occurs again: others are not compared."""
    counts = pc.value_counts(ids["id"])
    again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    wanted = pc.and_(pc.is_null(ids["answer"]), pc.is_in(ids["id"], again))
    rows = np.sort(ids["row"].filter(wanted).to_numpy())
    answers: dict[int, str] = {}
    for shard in shards.holding(rows) if len(rows) else []:
        own = rows[shards.slice_of(shard, rows)]
        column = work.read_table(f"rows/{shards.names[shard]}.parquet", ["answer"])["answer"]
        texts = column.take(own - shards.begins[shard]).to_pylist()
        answers.update(zip(own.tolist(), texts, strict=True))
    filled = [
        answers.get(row, "") if answer is None else answer
        for row, answer in zip(ids["row"].to_pylist(), ids["answer"].to_pylist(), strict=True)
    ]
    index = ids.schema.get_field_index("answer")
    return ids.set_column(index, "answer", pa.array(filled, pa.string()))


def find_links(bucket: int, shards: Shards, work: Store) -> int:
    """Pairs of rows that share a key of the bucket, without exact duplicates."""
    dropped = np.zeros(shards.rows, bool)
    dropped[dropped_rows(work, "exact", ["row"])["row"].to_numpy()] = True
    table = shards.read_bucket(work, "bands", bucket)
    row, key, tie = (table[column].to_numpy() for column in ("row", "key", "tie"))
    live = ~dropped[row]
    pairs = near_duplicates.links(row[live], key[live], tie[live])
    table = pa.table({"one": pairs[:, 0], "other": pairs[:, 1]})
    work.write_table(f"links/{bucket:05d}.parquet", table)
    return len(row)


def dropped_rows(
    work: Store, folder: str, columns: list[str], rows: tuple[int, int] | None = None
) -> pa.Table:
    """What a step dropped, of a range of rows if one is given."""
    paths = [work.path(f"{folder}/{name}") for name in work.files(folder)]
    if not paths:
        return DROPPED.empty_table().select(columns)
    chosen = None
    if rows:
        chosen = (pads.field("row") >= rows[0]) & (pads.field("row") < rows[1])
    data = pads.dataset(paths, schema=DROPPED, filesystem=work.filesystem)
    return data.to_table(columns=columns, filter=chosen)


def group_links(settings: PoolSettings, work: Store) -> int:
    """Candidate clusters out of all pairs, divided into buckets: row numbers, in one process."""
    table = pa.concat_tables(work.read_table(f"links/{name}") for name in work.files("links"))
    pairs = _pairs(table)
    rows, labels = near_duplicates.components(pairs)
    buckets = labels % settings.buckets
    own = buckets[np.searchsorted(rows, pairs[:, 0])]
    write_buckets(work, "candidates/pairs.arrow", table, own, settings.buckets)
    work.write_table("candidates/members.parquet", pa.table({"row": rows, "bucket": buckets}))
    return len(rows)


def _pairs(table: pa.Table) -> np.ndarray:
    return np.stack([table["one"].to_numpy(), table["other"].to_numpy()], axis=1)


def collect_candidates(shard: int, shards: Shards, settings: PoolSettings, work: Store) -> int:
    """What the comparison of candidates reads of those in one shard."""
    members = work.read_table("candidates/members.parquet")
    own = shards.slice_of(shard, members["row"].to_numpy())
    members = members.slice(own.start, own.stop - own.start)
    name = shards.names[shard]
    columns = ["id", *ORIGIN, "question", "answer", "domain", "metadata"]
    table = work.read_table(f"rows/{name}.parquet", columns)
    table = table.take(members["row"].to_numpy() - shards.begins[shard])
    features = Features.of(table["question"].to_pylist())
    hashes, offsets = near_duplicates.shingles(features, settings.near)
    priorities = pa.array([source.name for source in settings.sources])
    added = {
        "solved": has_solution(table, settings),
        "rank": pc.index_in(table["source"], priorities),
        "row": members["row"],
        "contents": pa.array(features.contents()),
        "shingles": pa.LargeListArray.from_arrays(offsets, pa.array(hashes, pa.uint64())),
    }
    table = table.drop_columns(["question", "metadata"])
    for column, values in added.items():
        table = table.append_column(column, values)
    buckets = members["bucket"].to_numpy()
    write_buckets(work, f"members/{name}.arrow", table, buckets, settings.buckets)
    return len(table)


def compare_candidates(bucket: int, names: list[str], settings: PoolSettings, work: Store) -> int:
    """The candidate clusters of a bucket compared: which rows go, and for which one."""
    members = pa.concat_tables(read_bucket(work, f"members/{name}.arrow", bucket) for name in names)
    candidates = [
        near_duplicates.Candidate(**row | {"shingles": frozenset(row["shingles"])})
        for row in members.to_pylist()
    ]
    pairs = np.unique(_pairs(read_bucket(work, "candidates/pairs.arrow", bucket)), axis=0)
    dropped = near_duplicates.choose_survivors(candidates, pairs, settings.near, same_gold_answer)
    listed = [
        {"row": row, "reason": reason, "evidence": evidence}
        for row, (reason, evidence) in sorted(dropped.items())
    ]
    work.write_table(f"near/{bucket:05d}.parquet", pa.Table.from_pylist(listed, schema=DROPPED))
    return len(candidates)
