"""The pool: from sources to problems, each row with its drop reason, on Ray Data.

    read      sources -> rows/, ids/, bands/     filters, gold check, decontamination; keys
    exact     ids/    -> exact/                  rows of one question: one stays
    near      bands/  -> links/, candidates/     rows that read alike, by bucket of their keys
    members   rows/   -> members/                what is compared of these rows
    settle    members/ -> near/                  true similarity, clusters, which row stays
    write     rows/, exact/, near/ -> pool/      every row with its position in the seeded order

Only ids and keys cross between tasks, never text, and they cross through files: each step is a
map over work items that leaves one file per item, so it needs no memory for the pool anywhere, a
second run skips what is there, and a killed one continues with the next file. A row's number
counts all rows in the order of the shards' names.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from limo_ray import verify
from limo_ray.core.records import ORDER_BITS, SAMPLED, fingerprint, order
from limo_ray.curate import dedup_steps, funnel
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.read_step import (
    PoolSettings,
    bucket_count,
    check_readable,
    items_to_keep_out,
    named_items,
    pool_settings,
    read,
    room_for_questions,
)
from limo_ray.curate.shuffle_files import Shards
from limo_ray.curate.steps import Step
from limo_ray.problems.drop_reasons import DROPPED, with_drop_reason
from limo_ray.problems.readable import check_first_rows
from limo_ray.problems.sources import open_sources, signature
from limo_ray.storage.store import Store, scan

if TYPE_CHECKING:
    from ray.data import Dataset

VERSION = 1  # of what these steps make of the same sources and settings
ROWS_IN_ORDER = 200_000  # read at once by whoever samples the pool in its order


def build_pool(config: CurateConfig, run: Store) -> Store:
    """The folder of the pool's shards: Parquet files with the columns of POOL and `order`.

    A pool that is there is kept while `pool_key` stays the same; one half made is continued.

    Raises:
        ValueError: a source that is not there or cannot be read, or a pool without a problem left.
    """
    key = pool_key(config)
    pool, work = run.within("pool"), run.within("pool-work")
    if (run.read_json("pool.json") or {}).get("key") == key:
        return pool
    opened = open_sources(config.sources, config.seed)
    if config.min_readable:
        check_first_rows(opened)
    if (work.read_json("key.json") or {}).get("key") != key:
        run.delete("pool.json")
        run.delete("pool")
        run.delete("pool-work")
        work.write_json("key.json", {"key": key, "buckets": bucket_count(opened)})
    buckets = work.read_json("key.json")["buckets"]
    items, missing = items_to_keep_out(config)
    settings = pool_settings(config, opened, items, buckets)
    seconds: dict[str, float] = {}
    for step in steps(settings, work, pool):
        seconds[step.name] = round(seconds.get(step.name, 0) + step.finish(), 1)
        if step.name == "read":
            check_readable(opened, work, config.min_readable)
    _check_left(pool)
    kept_out = Counter(item.benchmark for item in items)
    facts = {"seconds": seconds, "kept_out": kept_out, "missing": missing}
    run.write_json("pool.json", {"key": key, **facts})
    run.delete("pool-work")
    return pool


def _check_left(pool: Store) -> None:
    """Raises ValueError, with the funnel and what to try, where no problem is left to sample."""
    counts: Counter[tuple[str, str]] = Counter()
    for batch in scan(pool, ["stage", "reason"]):
        rows = batch.to_pydict()
        counts.update(zip(rows["stage"], rows["reason"], strict=True))
        if (None, None) in counts:
            return
    dropped = [
        {"outcome": "dropped", "stage": stage, "reason": reason, "rows": rows}
        for (stage, reason), rows in counts.items()
    ]
    told = [*funnel.lines(dropped), "Try", *funnel.advice(dropped)]
    raise ValueError("no problem is left in the pool\n" + "\n".join(told))


def pool_key(config: CurateConfig) -> str:
    """Changes whenever the pool would: settings, source files, code that makes or drops rows."""
    made_of = [asdict(source) for source in config.sources], signature(config.sources)
    drops = [asdict(config.filters), asdict(config.decontaminate), asdict(config.near)]
    if any(source.unanswered for source in config.sources):
        drops.append(asdict(config.difficulty.majority))
    kept_out = signature(config.decontaminate.files)
    room = room_for_questions(config)
    rest = [config.gold_check, config.seed, room, verify.VERSION, VERSION]
    return fingerprint([*made_of, *drops, kept_out, rest])


def steps(settings: PoolSettings, work: Store, pool: Store) -> Iterator[Step]:
    """The steps in order. Ask for the next one only when a step is finished: it reads its files.

    Args:
        settings: what to read and what to drop.
        work: folder of the files between steps; what is there is not made again.
        pool: folder of the shards.
    """
    items = named_items(settings.sources)
    yield Step(
        name="read", outputs=work.within("done"),
        items={f"{name}.json": (name, item) for name, item in items.items()},
        run=lambda named: read(named[0], named[1], settings, work),
    )  # fmt: skip
    shards = Shards.of(work, list(items))
    buckets = {f"{bucket:05d}.parquet": bucket for bucket in range(settings.buckets)}
    yield Step(
        name="exact", outputs=work.within("exact"), items=buckets,
        run=lambda bucket: dedup_steps.find_exact(bucket, shards, settings, work),
    )  # fmt: skip
    if settings.near.drop:
        yield from _near_steps(settings, work, shards, buckets)
    yield Step(
        name="write", outputs=pool,
        items={f"{name}.parquet": shard for shard, name in enumerate(shards.names)},
        run=lambda shard: write(shard, shards, settings, work, pool),
    )  # fmt: skip


def _near_steps(
    settings: PoolSettings, work: Store, shards: Shards, buckets: dict[str, int]
) -> Iterator[Step]:
    yield Step(
        name="near", outputs=work.within("links"), items=buckets,
        run=lambda bucket: dedup_steps.find_links(bucket, shards, work),
    )  # fmt: skip
    yield Step(
        name="near", outputs=work.within("candidates"), items={"members.parquet": settings},
        run=lambda settings: dedup_steps.group_links(settings, work), in_driver=True,
    )  # fmt: skip
    rows = work.read_table("candidates/members.parquet")["row"].to_numpy()
    holding = {shards.names[shard]: shard for shard in shards.holding(rows)}
    yield Step(
        name="members", outputs=work.within("members"),
        items={f"{name}.arrow": shard for name, shard in holding.items()},
        run=lambda shard: dedup_steps.collect_candidates(shard, shards, settings, work),
    )  # fmt: skip
    yield Step(
        name="settle", outputs=work.within("near"), items=buckets if holding else {},
        run=lambda bucket: dedup_steps.compare_candidates(bucket, list(holding), settings, work),
    )  # fmt: skip


def write(shard: int, shards: Shards, settings: PoolSettings, work: Store, pool: Store) -> int:
    """One shard of the pool: its rows with drop reason and position in the seeded order."""
    name, begin = shards.names[shard], shards.begins[shard]
    table = work.read_table(f"rows/{name}.parquet")
    for folder in ("exact", "near"):
        span = (begin, begin + table.num_rows)
        dropped = dedup_steps.dropped_rows(work, folder, DROPPED.names, span).to_pylist()
        for reason in sorted({row["reason"] for row in dropped}):
            evidence: list[str | None] = [None] * table.num_rows
            for row in dropped:
                if row["reason"] == reason:
                    evidence[row["row"] - begin] = row["evidence"]
            table = with_drop_reason(table, "dedup", reason, evidence)
    orders = [order(settings.seed, id_) for id_ in table["id"].to_pylist()]
    table = table.append_column("order", pa.array(orders, pa.int64())).sort_by("order")
    size = max(1_000, table.num_rows * ROWS_IN_ORDER // shards.rows)
    pool.write_table(f"{name}.parquet", table, row_group_size=size)
    return table.num_rows


def in_order(pool: Store) -> "Dataset":
    """The live rows in the seeded order, as a sampler takes them (SAMPLED): no text is shuffled.

    Each shard of the pool is sorted, so that a range of the order is a few row groups of each.
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
