"""The pool in the promising order, as a sampler takes it, and what the order saved.

promising = promising_pool(...)       starts a Ray actor with a `PromisingOrder`
data = promising.dataset()            each chunk is loaded once the actor can choose it
batches = promising.learn(batches)    the driver tells the actor what was decided
batches = promising.restore(batches)  with the seeded order again, for the files
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import ray
from ray.data import Dataset
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import ORDER_BITS, SAMPLED, Verdict, strong_counts
from limo_ray.curate.config import DifficultyConfig
from limo_ray.curate.cutoffs import Cutoffs
from limo_ray.curate.promising import PromisingOrder, cost, design, fair_sample
from limo_ray.engines.published import PublishedIndex, id_keys
from limo_ray.sampling.batching import batch_sizes
from limo_ray.sampling.passes import Pass
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.target import buckets
from limo_ray.storage.store import Store, scan

LEAST_CHUNK = 256
CHUNKS = 128  # of a pool, at the most: loading one reads the pool's files


class Chooser:
    """A `PromisingOrder` that waits for decisions, as an async Ray actor."""

    def __init__(self, features: np.ndarray, chunk: int, random_share: float) -> None:
        self.order = PromisingOrder(features, chunk, random_share)
        self.changed = asyncio.Condition()
        self.stopped = False

    async def chunk(self, number: int) -> np.ndarray:
        """The rows of a chunk (see `PromisingOrder`), once it can be chosen; none after `stop`."""
        async with self.changed:
            while not self.stopped:
                rows = self.order.chunk(number)
                if rows is not None:
                    return rows
                await self.changed.wait()
        return np.zeros(0, int)

    async def add(self, positions: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Takes decisions by position in the order; returns the rows."""
        rows = np.concatenate(self.order.chunks)[positions]
        self.order.add(rows, kept)
        async with self.changed:
            self.changed.notify_all()
        return rows

    async def stop(self) -> None:
        self.stopped = True
        async with self.changed:
            self.changed.notify_all()


class PromisingPool:
    """The driver's side: which position is which problem."""

    def __init__(
        self, pool: Store, run: Store, store: Store, passes: list[Pass], config: DifficultyConfig
    ) -> None:
        """Reads the pool once: its questions' lengths, and what is known of them."""
        self.pool = pool
        self.orders, features = _features(pool, run, store, passes, config)
        total = len(self.orders)
        # Up to two batches before each engine may wait for further rows to be filled up. A chunk
        # must hold more, or its last decisions would wait for the chunk that waits for them.
        held = sum(
            batch_sizes(p.engine.max_num_seqs, p.engine.min_replicas, p.engine.max_replicas)[0]
            for p in passes
        )
        self.chunk = max(LEAST_CHUNK, total // CHUNKS, 4 * held)
        self.step = (1 << ORDER_BITS) // max(1, total)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        start = ray.remote(Chooser).options(num_cpus=0, scheduling_strategy=here).remote
        self.chooser: Any = start(features, self.chunk, config.random_share)
        self.seeded: dict[int, int] = {}  # by position in units of `step`: the seeded order

    def sizes(self) -> dict[str, np.ndarray]:
        """Problems per order bucket: while sampling, the order is n equal steps."""
        return {"": buckets(np.arange(len(self.orders), dtype=np.int64) * self.step)}

    def dataset(self) -> Dataset:
        """The live rows (SAMPLED), their place in the promising order as `order`."""
        pool, chooser, chunk, step = self.pool, self.chooser, self.chunk, self.step
        orders = ray.put(self.orders)

        def load(batch: pa.Table) -> pa.Table:
            number = batch["chunk"][0].as_py()
            wanted = ray.get(orders)[ray.get(chooser.chunk.remote(number))]
            found = pads.field("order").isin(pa.array(wanted, pa.int64()))
            names = [pool.path(name) for name in pool.files("")]
            data = pads.dataset(names, filesystem=pool.filesystem)
            live = found & pads.field("reason").is_null()
            table = data.to_table(columns=SAMPLED.names[:-2], filter=live)
            place = {order: number * chunk + i for i, order in enumerate(wanted.tolist())}
            moved = [place[order] * step for order in table["order"].to_pylist()]
            column = table.schema.get_field_index("order")
            table = table.set_column(column, "order", pa.array(moved, pa.int64())).sort_by("order")
            table = table.append_column("alive", pa.array([True] * len(table), pa.bool_()))
            table = table.append_column("outcomes", pa.array(["[]"] * len(table), pa.string()))
            return table.cast(SAMPLED)

        chunks = -(-len(self.orders) // self.chunk)
        tables = [pa.table({"chunk": [number]}) for number in range(chunks)]
        return ray.data.from_arrow(tables).map_batches(
            load, batch_size=None, batch_format="pyarrow", num_cpus=0.1, concurrency=1
        )

    def learn(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The decided rows as they are, and told to the chooser."""
        for batch in batches:
            places = batch["order"].to_numpy()
            if len(places):
                rows = ray.get(self.chooser.add.remote(places // self.step, _kept(batch)))
                self.seeded |= zip(places.tolist(), self.orders[rows].tolist(), strict=True)
            yield batch

    def restore(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The rows with their seeded order again; stops the chooser after the last one."""
        for batch in batches:
            orders = [self.seeded[place] for place in batch["order"].to_pylist()]
            column = batch.schema.get_field_index("order")
            yield batch.set_column(column, "order", pa.array(orders, pa.int64()))
        ray.get(self.chooser.stop.remote())

    def cutoffs(self, last: int | None) -> Cutoffs:
        """The problems up to a position, or all that were decided."""
        counted = (order for place, order in self.seeded.items() if last is None or place <= last)
        return Cutoffs("", {}, frozenset(counted))

    def fair_sample(self, cutoffs: Cutoffs) -> Cutoffs:
        """Of them the beginning of the seeded order."""
        sampled = np.array(sorted(cutoffs.sampled or []), np.int64)
        end = fair_sample(np.isin(self.orders, sampled))
        return Cutoffs("", {}, frozenset(self.orders[:end].tolist()))


def promising_pool(
    pool: Store, run: Store, store: Store, passes: list[Pass], config: DifficultyConfig
) -> PromisingPool | None:
    """The pool in the promising order; None where the config wants the random one."""
    wanted = config.order == "promising"
    return PromisingPool(pool, run, store, passes, config) if wanted else None


def _kept(batch: pa.Table) -> np.ndarray:
    return np.array(batch["alive"].to_pylist(), bool)


def _features(
    pool: Store, run: Store, store: Store, passes: list[Pass], config: DifficultyConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Seeded orders (n,) of the live problems, sorted, and their features (n, d)."""
    parts = []
    for batch in scan(pool, ["id", "order", "source", "domain", "question", "metadata", "reason"]):
        live = batch.filter(pc.is_null(batch["reason"]))
        lengths = pc.utf8_length(live["question"])
        columns = {name: live[name] for name in ("id", "order", "source", "domain")}
        given = _metadata_rates(live["metadata"].to_pylist() if config.rates else [], config.rates)
        parts.append(pa.table(columns | {"length": lengths} | given))
    table = pa.concat_tables(parts).combine_chunks().sort_by("order")
    rates = [table[name].to_numpy() for name in config.rates]
    rates.append(_weak_rates(table["id"].to_pylist(), run, store, passes))
    for pass_ in passes:
        if pass_.engine.kind == "published":
            rates.append(_published_rates(table["id"].combine_chunks(), pass_))
    groups = [
        table[name].combine_chunks().dictionary_encode().indices.to_numpy()
        for name in ("source", "domain")
    ]
    return table["order"].to_numpy(), design(groups, table["length"].to_numpy(), rates)


def _metadata_rates(metadata: list[str], names: list[str]) -> dict[str, pa.Array]:
    """Numbers of 0 to 1 by their key in the metadata; nan for anything else."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for text in metadata:
        values = json.loads(text or "{}")
        for name in names:
            try:
                value = float(values.get(name))
            except (TypeError, ValueError):
                value = np.nan
            found[name].append(value if 0 <= value <= 1 else np.nan)
    return {name: pa.array(values, pa.float64()) for name, values in found.items()}


def _weak_rates(ids: list[str], run: Store, store: Store, passes: list[Pass]) -> np.ndarray:
    """The weak stage's logged pass rates (n,), nan where there are none.

    Kept with the run: a resumed one must not learn from attempts that came since, or its order
    would be another one.
    """
    weak = [stage for pass_ in passes for stage in pass_.stages if stage.name == "weak"]
    rates = np.full(len(ids), np.nan)
    if not weak:
        return rates
    made_of = {"pool": run.read_json("pool.json")["key"], "log": weak[0].fingerprint}
    if run.read_json("promising/made_of.json") != made_of:
        folder = AttemptLog(store, weak[0].fingerprint).folder
        table = read_table(store, folder, ["problem_id", "verdict"])
        right = pc.equal(table["verdict"], str(Verdict.CORRECT)).cast(pa.float64())
        means = pa.table({"id": table["problem_id"], "rate": right}).group_by("id")
        run.write_table("promising/weak.parquet", means.aggregate([("rate", "mean")]))
        run.write_json("promising/made_of.json", made_of)
    known = run.read_table("promising/weak.parquet")
    by_id = dict(zip(known["id"].to_pylist(), known["rate_mean"].to_pylist(), strict=True))
    return np.array([by_id.get(id_, np.nan) for id_ in ids], float)


def _published_rates(ids: pa.Array, pass_: Pass) -> np.ndarray:
    """Pass rates (n,) by the labels of a data set; nan where it has none for a problem."""
    index = PublishedIndex(Store(pass_.engine.published.folder))
    labelled = index.labels >= 0
    keys, place = np.unique(index.keys[labelled], return_inverse=True)
    means = np.bincount(place, index.labels[labelled]) / np.maximum(np.bincount(place), 1)
    rates = np.full(len(ids), np.nan)
    if len(keys):
        wanted = id_keys(ids)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        rates = np.where(keys[at] == wanted, means[at], np.nan)
    return rates


def statistics(
    promising: PromisingPool, cutoffs: Cutoffs, run: Store, store: Store, stages: list[Stage]
) -> dict[str, Any]:
    """What the order saved, and how the kept problems differ from those of the fair sample.

    Args:
        cutoffs: of the problems that count.
        stages: those that gate.
    """
    columns = ["id", "order", "source", "question", "alive", "outcomes"]
    tables = [batch.select(columns) for batch in scan(run.within("decided"), columns)]
    rows = [row for table in tables for row in table.to_pylist() if cutoffs.include(row)]
    rows.sort(key=lambda row: row["order"])
    spent = _tokens(stages, store)
    tokens = np.array([spent.get(row["id"], 0) for row in rows], float)
    kept = np.array([row["alive"] for row in rows], bool)
    fair, pool = len(promising.fair_sample(cutoffs).sampled or []), len(promising.orders)
    everything, random = cost(tokens, kept, pool), cost(tokens[:fair], kept[:fair], pool)
    groups = {"promising": [r for r in rows if r["alive"]],
              "random": [r for r in rows[:fair] if r["alive"]]}  # fmt: skip
    saving = [
        known / everything.per_keeper if known and everything.per_keeper else None
        for known in (random.per_keeper, random.low, random.high)
    ]
    return {
        "sampled": len(rows), "kept": everything.kept, "tokens": everything.tokens,
        "per_keeper": everything.per_keeper, "random": asdict(random),
        "saving": dict(zip(("estimate", "low", "high"), saving, strict=True)),
        "kept_sets": {name: _describe(group) for name, group in groups.items()},
    }  # fmt: skip


def _tokens(stages: list[Stage], store: Store) -> dict[str, int]:
    """Completion tokens of the logged attempts within the stages' budgets, by problem."""
    spent: dict[str, int] = {}
    for stage in stages:
        columns = ["problem_id", "index", "completion_tokens"]
        table = read_table(store, AttemptLog(store, stage.fingerprint).folder, columns)
        table = table.filter(pc.less(table["index"], stage.rule.budget))
        # one that was verified again has several rows
        table = table.group_by(["problem_id", "index"]).aggregate([("completion_tokens", "max")])
        sums = table.group_by("problem_id").aggregate([("completion_tokens_max", "sum")])
        for row in sums.to_pylist():
            id_ = row["problem_id"]
            spent[id_] = spent.get(id_, 0) + row["completion_tokens_max_sum"]
    return spent


def _describe(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of kept problems: number, share of each source, mean pass rate, mean length in words."""
    counts = [strong_counts(row["outcomes"]) or (0, 0) for row in rows]
    rates = [correct / finished for correct, finished in counts if finished]
    sources = [row["source"] for row in rows]
    return {
        "problems": len(rows),
        "sources": {name: sources.count(name) / len(rows) for name in sorted(set(sources))},
        "pass_rate": float(np.mean(rates)) if rates else None,
        "words": float(np.mean([len(row["question"].split()) for row in rows])) if rows else None,
    }
