"""The pool: from sources to problems, each row with its fate, on Ray Data and through the store.

    read      sources -> rows/, ids/, bands/     filters, decontamination, gold check; keys
    exact     ids/    -> exact/                  rows of one question: one stays
    near      bands/  -> links/                  rows that read alike, by bucket of their keys
    settle    links/, rows/ -> members/, near/   true similarity, clusters, who stays
    write     rows/, exact/, near/ -> pool/      every row with its place in the seeded order

Only ids and keys cross between tasks, never text, and they cross through files: each step is a
map over work items that leaves one file per item, so it needs no memory for the pool anywhere, a
second run skips what is there, and a killed one goes on with the next file. A row's number counts
all rows in the order of the parts' names.
"""

import logging
import pickle
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from limo_ray.core.records import ORDER_BITS, SAMPLED, order
from limo_ray.curate.dedup import duplicates, judged_equal
from limo_ray.curate.read_step import ORIGIN, Plan, pieces, read, solved
from limo_ray.curate.shuffle_files import Parts, read_bucket, write_buckets
from limo_ray.problems import near_duplicates
from limo_ray.problems.drop_reasons import FATE, with_fate
from limo_ray.problems.text_features import Features
from limo_ray.runs import heartbeat
from limo_ray.storage.store import Store

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)

VERSION = 1  # of what these steps make of the same sources and settings
TELL_EVERY_S = 15.0
ROWS_IN_ORDER = 200_000  # read at once by whoever samples the pool in its order


def make(plan: Plan, work: Store, pool: Store) -> dict[str, float]:
    """Writes the pool's parts; returns the seconds that each step took.

    Args:
        plan: what to do.
        work: folder of what the steps leave to one another; what is there is not made again.
        pool: folder of the parts, Parquet files with the columns of POOL and `order`.
    """
    seconds: dict[str, float] = {}

    def step(name: str, items: list[Any], does: Callable[[Any], int]) -> None:
        started = time.time()
        _each(name, items, does)
        seconds[name] = round(time.time() - started, 1)

    whole = pieces(plan)
    done = set(work.files("done", ".json"))
    left = [piece for piece in whole if f"{piece[0]}.json" not in done]
    step("read", left, lambda piece: read(piece, plan, work))
    parts = Parts.of(work, [name for name, _ in whole])
    if not parts.rows:
        raise ValueError(f"sources: no rows in {', '.join(s.name for s in plan.sources)}")
    all_buckets = list(range(plan.buckets))
    step(
        "exact", _missing(work, "exact", all_buckets),
        lambda bucket: find_exact(bucket, parts, plan, work),
    )  # fmt: skip
    if plan.near.on:
        step(
            "near", _missing(work, "links", all_buckets),
            lambda bucket: find_links(bucket, parts, work),
        )  # fmt: skip
        started = time.time()
        group(plan, work)
        seconds["near"] += round(time.time() - started, 1)
        members = work.read_table("candidates/members.parquet")
        involved = parts.holding(members["row"].to_numpy())
        step(
            "members", _not_in(work.files("members", ".arrow"), parts, involved),
            lambda part: fetch(part, parts, plan, work),
        )  # fmt: skip
        step(
            "settle", _missing(work, "near", all_buckets if involved else []),
            lambda bucket: settle(bucket, [parts.names[p] for p in involved], plan, work),
        )  # fmt: skip
    todo = _not_in(pool.files(""), parts, range(len(parts.names)))
    step("write", todo, lambda part: write(part, parts, plan, work, pool))
    return seconds


def _each(name: str, items: list[Any], does: Callable[[Any], int]) -> None:
    """Calls does(item) for all items on the cluster; it returns the rows that it handled."""
    import ray.data

    if not items:
        return

    def call(batch: pa.Table) -> pa.Table:
        done = [does(pickle.loads(item)) for item in batch["item"].to_pylist()]
        return pa.table({"rows": pa.array(done, pa.int64())})

    call.__name__ = name  # what the dashboard shows
    table = pa.table({"item": [pickle.dumps(item) for item in items]})
    data = ray.data.from_arrow([table.slice(i, 1) for i in range(len(items))])
    calls = data.map_batches(call, batch_size=None, batch_format="pyarrow", num_cpus=1)
    calls.set_name(f"pool_{name}")
    started = told = time.time()
    rows = ended = 0
    heartbeat.tell("pool", lambda: {"step": name, "parts": ended, "of": len(items), "rows": rows})
    for row in calls.iter_rows():
        rows, ended = rows + row["rows"], ended + 1
        if time.time() - told > TELL_EVERY_S:
            told = time.time()
            speed = rows / (told - started)
            log.info(
                "pool, %s: %d of %d parts, %s rows, %s rows/s",
                name, ended, len(items), f"{rows:,}", f"{speed:,.0f}",
            )  # fmt: skip
    spent = time.time() - started
    if spent > TELL_EVERY_S:
        log.info("pool, %s: %s rows in %.0f s", name, f"{rows:,}", spent)


def _not_in(files: list[str], parts: Parts, wanted: Iterable[int]) -> list[int]:
    """The wanted parts that no file is named after."""
    there = {file.rpartition(".")[0] for file in files}
    return [part for part in wanted if parts.names[part] not in there]


def _missing(work: Store, folder: str, buckets: list[int]) -> list[int]:
    there = set(work.files(folder))
    return [bucket for bucket in buckets if f"{bucket:05d}.parquet" not in there]


# exact


def find_exact(bucket: int, parts: Parts, plan: Plan, work: Store) -> int:
    """The rows of one question, of all ids of a bucket: who goes and why."""
    ids = _with_long_answers(parts.read(work, "ids", bucket), parts, work)
    gone = duplicates(ids, [source.name for source in plan.sources], judged_equal)
    work.write_table(f"exact/{bucket:05d}.parquet", gone)
    return ids.num_rows


def _with_long_answers(ids: pa.Table, parts: Parts, work: Store) -> pa.Table:
    """The long gold answers put in, of rows whose id occurs again: others are not looked at."""
    counts = pc.value_counts(ids["id"])
    again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    wanted = pc.and_(pc.is_null(ids["answer"]), pc.is_in(ids["id"], again))
    rows = np.sort(ids["row"].filter(wanted).to_numpy())
    answers: dict[int, str] = {}
    for part in parts.holding(rows) if len(rows) else []:
        own = rows[parts.within(part, rows)]
        column = work.read_table(f"rows/{parts.names[part]}.parquet", ["answer"])["answer"]
        texts = column.take(own - parts.begins[part]).to_pylist()
        answers.update(zip(own.tolist(), texts, strict=True))
    filled = [
        answers.get(row, "") if answer is None else answer
        for row, answer in zip(ids["row"].to_pylist(), ids["answer"].to_pylist(), strict=True)
    ]
    index = ids.schema.get_field_index("answer")
    return ids.set_column(index, "answer", pa.array(filled, pa.string()))


# near-duplicates


def find_links(bucket: int, parts: Parts, work: Store) -> int:
    """Pairs of rows that share a key of the bucket; those that went as exact duplicates apart."""
    gone = np.zeros(parts.rows, bool)
    gone[_gone(work, "exact", ["row"])["row"].to_numpy()] = True
    table = parts.read(work, "bands", bucket)
    row, key, tie = (table[column].to_numpy() for column in ("row", "key", "tie"))
    stays = ~gone[row]
    pairs = near_duplicates.links(row[stays], key[stays], tie[stays])
    table = pa.table({"one": pairs[:, 0], "other": pairs[:, 1]})
    work.write_table(f"links/{bucket:05d}.parquet", table)
    return len(row)


def _gone(work: Store, folder: str, columns: list[str], rows: tuple[int, int] = (0, 0)) -> pa.Table:
    """What a step dropped, of rows in a range if one is given, by row."""
    paths = [work.path(f"{folder}/{name}") for name in work.files(folder)]
    if not paths:
        return FATE.empty_table().select(columns)
    chosen = None
    if rows[1]:
        chosen = (pads.field("row") >= rows[0]) & (pads.field("row") < rows[1])
    data = pads.dataset(paths, schema=FATE, filesystem=work.filesystem)
    return data.to_table(columns=columns, filter=chosen)


def group(plan: Plan, work: Store) -> None:
    """Candidate clusters out of all pairs, dealt out to buckets: ids only, in one process."""
    if work.exists("candidates/members.parquet"):
        return
    tables = [work.read_table(f"links/{name}") for name in work.files("links")]
    table = pa.concat_tables(tables)
    pairs = np.stack([table["one"].to_numpy(), table["other"].to_numpy()], axis=1)
    rows, labels = near_duplicates.components(pairs)
    buckets = labels % plan.buckets
    own = buckets[np.searchsorted(rows, pairs[:, 0])]
    linked = pa.table({"one": pairs[:, 0], "other": pairs[:, 1]})
    write_buckets(work, "candidates/pairs.arrow", linked, own, plan.buckets)
    work.write_table("candidates/members.parquet", pa.table({"row": rows, "bucket": buckets}))


def fetch(part: int, parts: Parts, plan: Plan, work: Store) -> int:
    """What the comparison of candidates needs to know of those in one part."""
    members = work.read_table("candidates/members.parquet")
    own = parts.within(part, members["row"].to_numpy())
    members = members.slice(own.start, own.stop - own.start)
    places = members["row"].to_numpy() - parts.begins[part]
    columns = ["id", *ORIGIN, "question", "answer", "domain", "metadata"]
    table = work.read_table(f"rows/{parts.names[part]}.parquet", columns).take(places)
    found = Features.of(table["question"].to_pylist())
    hashes, offsets = near_duplicates.shingles(found, plan.near)
    rank = pc.index_in(table["source"], pa.array([source.name for source in plan.sources]))
    table = table.drop_columns(["question", "metadata"]).append_column(
        "solved", solved(table, plan)
    )
    table = table.append_column("rank", rank).append_column("row", members["row"])
    table = table.append_column("contents", pa.array(found.contents()))
    shingled = pa.LargeListArray.from_arrays(offsets, pa.array(hashes, pa.uint64()))
    table = table.append_column("shingles", shingled)
    name = f"members/{parts.names[part]}.arrow"
    write_buckets(work, name, table, members["bucket"].to_numpy(), plan.buckets)
    return len(places)


def settle(bucket: int, names: list[str], plan: Plan, work: Store) -> int:
    """The candidate clusters of a bucket compared: who goes, and whom for."""
    found = pa.concat_tables(read_bucket(work, f"members/{name}.arrow", bucket) for name in names)
    rows = {row["row"]: row for row in found.to_pylist()}
    table = read_bucket(work, "candidates/pairs.arrow", bucket)
    pairs = np.stack([table["one"].to_numpy(), table["other"].to_numpy()], axis=1)
    gone = near_duplicates.settle(rows, np.unique(pairs, axis=0), plan.near, judged_equal)
    listed = [
        {"row": row, "reason": reason, "evidence": evidence}
        for row, (reason, evidence) in sorted(gone.items())
    ]
    work.write_table(f"near/{bucket:05d}.parquet", pa.Table.from_pylist(listed, schema=FATE))
    return len(rows)


# write


def write(part: int, parts: Parts, plan: Plan, work: Store, pool: Store) -> int:
    """One part of the pool: its rows with their fate and their place in the seeded order."""
    name, begin = parts.names[part], parts.begins[part]
    table = work.read_table(f"rows/{name}.parquet")
    for folder in ("exact", "near"):
        gone = _gone(work, folder, FATE.names, (begin, begin + table.num_rows)).to_pylist()
        for reason in sorted({row["reason"] for row in gone}):
            told: list[str | None] = [None] * table.num_rows
            for row in gone:
                if row["reason"] == reason:
                    told[row["row"] - begin] = row["evidence"]
            table = with_fate(table, "dedup", reason, told)
    orders = [order(plan.seed, name) for name in table["id"].to_pylist()]
    table = table.append_column("order", pa.array(orders, pa.int64())).sort_by("order")
    size = max(1_000, table.num_rows * ROWS_IN_ORDER // parts.rows)
    pool.write_table(f"{name}.parquet", table, row_group_size=size)
    return table.num_rows


def in_order(pool: Store) -> "Dataset":
    """The live rows in the seeded order, as a sampler takes them (SAMPLED): no text is shuffled.

    Each part of the pool is sorted, so that a range of the order is a few row groups of each.
    """
    import ray.data

    names = pool.files("")
    rows = sum(pq.read_metadata(pool.path(n), filesystem=pool.filesystem).num_rows for n in names)
    ranges = max(1, rows // ROWS_IN_ORDER)
    edges = [(i << ORDER_BITS) // ranges for i in range(ranges + 1)]

    def load(batch: pa.Table) -> pa.Table:
        begin, end = batch["begin"][0].as_py(), batch["end"][0].as_py()
        wanted = (pads.field("order") >= begin) & (pads.field("order") < end)
        data = pads.dataset([pool.path(name) for name in names], filesystem=pool.filesystem)
        live = wanted & pads.field("reason").is_null()
        table = data.to_table(columns=SAMPLED.names[:-2], filter=live).sort_by("order")
        table = table.append_column("alive", pa.array([True] * len(table), pa.bool_()))
        table = table.append_column("outcomes", pa.array(["[]"] * len(table), pa.string()))
        return table.cast(SAMPLED)

    tables = [pa.table({"begin": [a], "end": [b]}) for a, b in pairwise(edges)]
    # Not ray.data.read_parquet, which starts 32 actors of one CPU each to look at the files.
    # One range after the other: the order is what a target counts by.
    return ray.data.from_arrow(tables).map_batches(
        load, batch_size=None, batch_format="pyarrow", num_cpus=0.1, concurrency=1
    )
