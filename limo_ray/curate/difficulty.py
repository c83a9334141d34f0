"""Difficulty sampling: which problems of the pool are hard but solvable, and chains for those.

The stages (weak model, strong model, teachers) are passes of attempts; stages on one engine share
its replicas. With `overlap` all engines run at once, each problem going on as soon as it is
decided; without, one engine's stages end before the next engine starts.
"""

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset

from limo_ray.attempts.index import AttemptIndex
from limo_ray.attempts.log import AttemptLog
from limo_ray.core.records import SAMPLED, Verdict
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pool import in_order
from limo_ray.engines.base import EngineConfig, SamplingConfig, identity
from limo_ray.sampling.passes import Pass, engine_seconds, resolve, warn_missing_gpus
from limo_ray.sampling.progress import Progress
from limo_ray.sampling.reverify import reverify
from limo_ray.sampling.sampler import sample, start_coordinator
from limo_ray.sampling.stages import Stage, sampling_fingerprint
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.sampling.target import Target, Yield, buckets, extrapolate
from limo_ray.storage.store import Store, scan
from limo_ray.verify import Health

log = logging.getLogger(__name__)

# A part of the decided problems: what the driver holds before it writes it.
PART_ROWS = 50_000
PART_BYTES = 32 * 2**20


@dataclass(kw_only=True, slots=True)
class Sampled:
    """What difficulty sampling came to."""

    stages: list[Stage]
    stats: dict[str, Any]
    """Running totals of the samplers, by stage name (see Sampler._stats)."""
    seconds: float
    engines: dict[str, dict[str, Any]]
    """By engine name: `replicas` that drew, and the `seconds` that they did so, added up."""
    cutoffs: dict[str, int]
    """By group: the order after which problems count as not sampled."""
    yields: list[Yield]


def passes(config: CurateConfig, device: str, *, identify: bool = True) -> list[Pass]:
    """The stages in order, neighbours on the same engine together.

    `identify` false leaves out the fingerprints, which need the models at hand.
    """
    planned = []
    if weak := config.difficulty.weak:
        planned.append((weak.engine, "weak", weak.rule, weak.sampling, True))
    strong = config.difficulty.strong
    planned.append((strong.engine, "strong", strong.rule, strong.sampling, True))
    for teacher in config.chains.teachers:
        rule = StopRule(budget=teacher.attempts, keep_min=0, keep_max=teacher.attempts, early=False)
        planned.append((teacher.engine, teacher.name, rule, teacher.sampling, False))
    result = []
    for name, several in itertools.groupby(planned, key=lambda stage: stage[0]):
        engine = resolve(config.engines[name], device)
        stages = [
            Stage(
                name=stage,
                rule=rule,
                sampling=sampling,
                fingerprint=_fingerprint(config, engine, sampling) if identify else "",
                gate=gate,
            )
            for _, stage, rule, sampling, gate in several
        ]
        result.append(Pass(engine_name=name, engine=engine, stages=stages))
    return result


def _fingerprint(config: CurateConfig, engine: EngineConfig, sampling: SamplingConfig) -> str:
    return sampling_fingerprint(
        identity(engine), config.system, engine.dtype, engine.max_model_len, sampling
    )


def draw(pool: Store, run: Store, store: Store, config: CurateConfig, device: str) -> Sampled:
    """Samples the pool and writes every decided problem to `<run>/decided/part-*.parquet`.

    Args:
        pool: folder of Parquet files with the columns of POOL and `order`.
        run: the run directory.
        store: holds the attempt logs.
        device: gpu or cpu, for engines whose device is auto.
    """
    started = time.time()
    planned = passes(config, device)
    warn_missing_gpus(planned, device)
    group_by = "" if config.difficulty.per == "all" else config.difficulty.per
    counts = _pool_counts(pool, group_by)
    targets = {}
    if wanted := config.difficulty.stop_after_kept:
        targets = {group: Target(wanted, place) for group, place in counts.items()}
    coordinator = start_coordinator()
    stages = [stage for one in planned for stage in one.stages]
    for fingerprint in {stage.fingerprint for stage in stages}:
        index = _folded(pool, AttemptLog(store, fingerprint), config)
        if config.difficulty.overlap:  # else a later pass may find what an earlier one has drawn
            ray.get(coordinator.offer_index.remote(fingerprint, [ray.put(index)]))
        del index
    for folder in ("decided", "passed"):
        run.delete(folder)
    total = int(sum(place.sum() for place in counts.values()))
    with Progress(coordinator, stages, total, config.difficulty.stop_after_kept) as progress:
        try:
            data = in_order(pool)
            for place, one in enumerate(planned):
                data = sample(
                    data,
                    one.engine,
                    one.stages,
                    store,
                    system=config.system,
                    coordinator=coordinator,
                    config=config.sampler,
                    group_by=group_by,
                    total=total,
                )
                if not config.difficulty.overlap and one is not planned[-1]:
                    data = _set_down(data, run.within(f"passed/{place}"))
            data.set_name("sampling")
            decided = _until_met(data, targets, group_by, coordinator, progress)
            for part, table in enumerate(_parts(decided)):
                run.write_table(f"decided/part-{part:06d}.parquet", table)
        except KeyboardInterrupt:
            progress.interrupt()
            raise
        stats = progress.last()
        engines = engine_seconds(planned, progress.workers)
    ray.kill(coordinator)
    run.delete("passed")
    _check_verdicts(stats, config.sampler.max_error_share)
    cutoffs = {
        group: cutoff
        for group, target in targets.items()
        if (cutoff := target.cutoff()) is not None
    }
    return Sampled(
        stages=stages,
        stats=stats,
        seconds=time.time() - started,
        engines=engines,
        cutoffs=cutoffs,
        yields=_yields(run, counts, cutoffs, group_by) if targets else [],
    )


def _folded(pool: Store, attempt_log: AttemptLog, config: CurateConfig) -> AttemptIndex:
    """The log's state, its small parts merged and its stale verdicts given again."""
    attempt_log.compact()
    index = attempt_log.read_index()
    again = reverify(pool, attempt_log, config.sampler.judge, index)
    return index.with_rows_of(attempt_log.read_index(skip=index.parts)) if again else index


def _check_verdicts(stats: dict[str, Any], max_error_share: float) -> None:
    """Raises VerificationError for a run that was too short for the samplers to stop it."""
    for totals in stats.values():
        health = Health(max_error_share, min_count=20)
        for counts in (totals["verdicts"], totals["priors"]):
            health.counts.update({Verdict(name): count for name, count in counts.items()})
        health.check()


def _pool_counts(pool: Store, group_by: str) -> dict[str, np.ndarray]:
    """Live problems per order bucket, for each group; reads two small columns."""
    columns = ["order", "reason", *([group_by] if group_by else [])]
    counts: dict[str, np.ndarray] = {}
    for batch in scan(pool, columns):
        batch = batch.filter(pa.compute.is_null(batch["reason"]))
        orders = batch["order"].to_numpy()
        groups = np.array(batch[group_by].to_pylist() if group_by else [""] * len(orders))
        for group in np.unique(groups):
            counts[str(group)] = counts.get(str(group), 0) + buckets(orders[groups == group])
    return counts


def _until_met(
    data: Dataset, targets: dict[str, Target], group_by: str, coordinator: Any, progress: Progress
) -> Iterator[pa.Table]:
    """The decided rows as they come, until every group has the keepers it wants."""
    met: set[str] = set()
    batches: Any = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield batch
        if not targets:
            continue
        groups = batch[group_by].to_pylist() if group_by else [""] * len(batch)
        decided = zip(groups, batch["order"].to_pylist(), batch["alive"].to_pylist(), strict=True)
        for group, order, alive in decided:
            targets[group].add(order, alive)
        if fresh := {group for group in set(groups) - met if targets[group].cutoff() is not None}:
            met |= fresh
            ray.get(coordinator.stop.remote(met, met == targets.keys()))
        if met == targets.keys():
            progress.wait_for_halt(timeout_s=60)
            return


def _set_down(data: Dataset, folder: Store) -> Dataset:
    """What an engine's stages came to, in the store: no node that is lost takes it along."""
    batches: Any = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for part, table in enumerate(_parts(batches)):
        folder.write_table(f"part-{part:06d}.parquet", table)
    paths = [folder.path(name) for name in folder.files("")]
    if not paths:
        return ray.data.from_arrow(SAMPLED.empty_table())
    return ray.data.read_parquet(paths, filesystem=folder.filesystem, schema=SAMPLED)


def _parts(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Many small tables as few: the driver holds one part, however large the pool is."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        held.append(table.cast(SAMPLED))
        rows, size = rows + len(table), size + table.nbytes
        if rows >= PART_ROWS or size >= PART_BYTES:
            yield pa.concat_tables(held).combine_chunks()
            held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def counts_as_sampled(row: dict[str, Any], cutoffs: dict[str, int], group_by: str) -> bool:
    """False for a problem that comes after the last keeper that its group wanted."""
    cutoff = cutoffs.get(row[group_by] if group_by else "")
    return cutoff is None or row["order"] <= cutoff


def _yields(
    run: Store, counts: dict[str, np.ndarray], cutoffs: dict[str, int], group_by: str
) -> list[Yield]:
    sampled = dict.fromkeys(counts, 0)
    kept = dict.fromkeys(counts, 0)
    columns = ["order", "alive", *([group_by] if group_by else [])]
    for batch in scan(run.within("decided"), columns):
        for row in batch.to_pylist():
            if counts_as_sampled(row, cutoffs, group_by):
                group = row[group_by] if group_by else ""
                sampled[group] += 1
                kept[group] += row["alive"]
    return [
        extrapolate(group or "all", int(counts[group].sum()), sampled[group], kept[group])
        for group in sorted(counts)
    ]


def manifest_stage(stage: Stage, engine_name: str, model: str) -> dict[str, Any]:
    """A stage's settings for the manifest."""
    return {
        "name": stage.name,
        "engine": engine_name,
        "model": model,
        "fingerprint": stage.fingerprint,
        "rule": asdict(stage.rule),
        "sampling": asdict(stage.sampling),
    }
