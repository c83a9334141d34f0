"""Difficulty sampling: which problems of the pool are hard but solvable, and chains for those.

Stages (weak model, strong model, teachers) on one engine are a pass and share its replicas. With
`overlap` all engines run at once, and a problem goes on as soon as it is decided; without, one
engine's stages end before the next engine starts.
"""

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset

from limo_ray.attempts.log import AttemptLog
from limo_ray.core.records import SAMPLED, Verdict
from limo_ray.curate import published
from limo_ray.curate.config import CurateConfig, StageConfig, TeacherConfig
from limo_ray.curate.cutoffs import Cutoffs
from limo_ray.curate.part_files import gather, write_parts
from limo_ray.curate.pool import in_order
from limo_ray.curate.promising_pool import promising_pool, statistics
from limo_ray.curate.records import KeptProblem
from limo_ray.engines.base import SamplingConfig, identity
from limo_ray.sampling.passes import Pass, check_engines, engine_seconds, resolve
from limo_ray.sampling.progress import Progress
from limo_ray.sampling.ray_stage import sample, start_coordinator
from limo_ray.sampling.reverify import reverify
from limo_ray.sampling.spending import spending
from limo_ray.sampling.stages import Stage, sampling_fingerprint
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.sampling.target import Target, Yield, buckets, extrapolate
from limo_ray.storage.store import Store, scan
from limo_ray.verify import Health

log = logging.getLogger(__name__)

# A part file of the decided problems: what the driver holds before it writes it.
PART_ROWS = 50_000
PART_BYTES = 32 * 2**20


@dataclass(kw_only=True, slots=True)
class Sampled:
    """What difficulty sampling gave, besides the decided problems."""

    passes: list[Pass]
    stats: dict[str, Any]
    """Running totals of the samplers, by stage name (see limo_ray.sampling.totals)."""
    seconds: float
    engines: dict[str, dict[str, Any]]
    """By engine name: `replicas` that sampled, and the `seconds` that they did so, added up."""
    cutoffs: Cutoffs
    yields: list[Yield]
    promising: dict[str, Any] | None = None
    """What the promising order saved (promising_pool.statistics), where it was asked for."""

    @property
    def stages(self) -> list[Stage]:
        """Of all passes, in order."""
        return [stage for pass_ in self.passes for stage in pass_.stages]


def passes(config: CurateConfig, device: str, *, identify: bool = True) -> list[Pass]:
    """The stages in order, neighbours on the same engine together.

    `identify` false leaves out the fingerprints, which need the models at hand.
    """

    def add(
        use: StageConfig | TeacherConfig, name: str, rule: StopRule, *, gate: bool = True
    ) -> None:
        """A stage, and the one that completes it."""
        first = stage(use.engine, name, rule, use.sampling, gate)
        stages.append((use.engine, first))
        if use.fallback and config.engines[use.engine].kind == "published":
            rest = stage(use.fallback, f"{name} completed", rule, use.sampling, gate)
            first.completed, rest.completes = True, name
            stages.append((use.fallback, rest))

    def stage(
        engine_name: str, name: str, rule: StopRule, sampling: SamplingConfig, gate: bool
    ) -> Stage:
        engine = resolve(config.engines[engine_name], device)
        fingerprint = ""
        if identify and engine.kind == "published":
            fingerprint = published.attempts_fingerprint(engine_name, engine.published)
        elif identify:
            fingerprint = sampling_fingerprint(
                identity(engine), config.system, engine.dtype, engine.max_model_len, sampling
            )
        return Stage(name=name, rule=rule, sampling=sampling, fingerprint=fingerprint, gate=gate)

    stages: list[tuple[str, Stage]] = []
    if weak := config.difficulty.weak:
        add(weak, "weak", weak.rule)
    add(config.difficulty.strong, "strong", config.difficulty.strong.rule)
    for teacher in config.chains.teachers:
        rule = StopRule(budget=teacher.attempts, keep_min=0, keep_max=teacher.attempts, early=False)
        add(teacher, teacher.name, rule, gate=False)
    return [
        Pass(
            engine_name=name,
            engine=resolve(config.engines[name], device),
            stages=[stage for _, stage in several],
        )
        for name, several in itertools.groupby(stages, key=itemgetter(0))
    ]


def sample_pool(
    pool: Store,
    run: Store,
    store: Store,
    config: CurateConfig,
    device: str,
    only: frozenset[str] = frozenset(),
) -> Sampled:
    """Samples the pool and writes every decided problem to `<run>/decided/part-*.parquet`.

    Args:
        pool: folder of Parquet files with the columns of POOL and `order`.
        run: the run directory.
        store: holds the attempt logs.
        device: gpu or cpu, for engines whose device is auto.
        only: ids of the problems to sample; empty for all.
    """
    started = time.time()
    planned = passes(config, device)
    check_engines(planned, device, together=config.difficulty.overlap)
    _collect_published(planned, pool, run, store)
    stages = [stage for pass_ in planned for stage in pass_.stages]
    for stage in stages:
        stage.only = only
    group_by = config.difficulty.group_by
    promising = promising_pool(pool, run, store, planned, config.difficulty)
    sizes = promising.sizes() if promising else _pool_sizes(pool, group_by)
    wanted = config.difficulty.stop_after_kept
    targets = {group: Target(wanted, size) for group, size in sizes.items()} if wanted else {}
    total = int(sum(size.sum() for size in sizes.values()))
    used = [(pass_.engine, stage) for pass_ in planned for stage in pass_.stages]
    costs = spending(used, store, config.sampler.spend_cap)
    coordinator = start_coordinator(costs.before)
    _read_logs(stages, pool, store, config, coordinator)
    for folder in ("decided", "passed"):
        run.delete(folder)
    with Progress(coordinator, stages, total, wanted, costs) as progress:
        data = promising.dataset() if promising else in_order(pool)
        for index, pass_ in enumerate(planned):
            data = sample(
                data,
                pass_.engine,
                pass_.stages,
                store,
                system=config.system,
                coordinator=coordinator,
                config=config.sampler,
                group_by=group_by,
                total=total,
            )
            if not config.difficulty.overlap and pass_ is not planned[-1]:
                data = _materialise(data, run.within(f"passed/{index}"))
                progress.check_cap()
        data.set_name("sampling")
        batches = promising.learn(_batches(data)) if promising else _batches(data)
        decided = _until_met(batches, targets, group_by, coordinator, progress)
        _write(run.within("decided"), promising.restore(decided) if promising else decided)
        progress.check_cap()
        stats = progress.last()
        engines = engine_seconds(planned, progress.workers)
    run.delete("passed")
    _check_verdicts(stats, config.sampler.max_error_share)
    cutoffs = Cutoffs.of(targets, group_by)
    saved = None
    if promising:
        cutoffs = promising.cutoffs(targets[""].cutoff())
        saved = statistics(promising, cutoffs, run, store, [each for each in stages if each.gate])
    fair = promising.fair_sample(cutoffs) if promising else cutoffs
    return Sampled(
        passes=planned,
        stats=stats,
        seconds=time.time() - started,
        engines=engines,
        cutoffs=cutoffs,
        yields=_yields(run, sizes, fair) if targets else [],
        promising=saved,
    )


def _collect_published(planned: list[Pass], pool: Store, run: Store, store: Store) -> None:
    """Collects what data sets have of the pool's problems, for the engines that give it back."""
    for pass_ in planned:
        if pass_.engine.kind == "published":
            key = run.read_json("pool.json")["key"]
            attempts = pass_.stages[0].fingerprint
            pass_.engine.published = replace(
                pass_.engine.published,
                folder=published.collect(
                    pass_.engine_name, pass_.engine.published, attempts, pool, key, store
                ),
            )


def _read_logs(
    stages: list[Stage], pool: Store, store: Store, config: CurateConfig, coordinator: Any
) -> None:
    """The stages' logs compacted, their stale verdicts given again, offered to the samplers."""
    for fingerprint in {stage.fingerprint for stage in stages}:
        attempt_log = AttemptLog(store, fingerprint)
        attempt_log.compact()
        index = attempt_log.read_index()
        if reverify(pool, attempt_log, config.sampler.judge, index, config.sampler.code):
            index = index.with_rows_of(attempt_log.read_index(skip=index.parts))
        if config.difficulty.overlap:  # else a later pass may find what an earlier one sampled
            ray.get(coordinator.offer_index.remote(fingerprint, [ray.put(index)]))


def _check_verdicts(stats: dict[str, Any], max_error_share: float) -> None:
    """Raises VerificationError for a run that was too short for the samplers to stop it."""
    for totals in stats.values():
        health = Health(max_error_share, min_count=20)
        for counts in (totals["verdicts"], totals["priors"]):
            health.counts.update({Verdict(name): count for name, count in counts.items()})
        health.check()


def _pool_sizes(pool: Store, group_by: str) -> dict[str, np.ndarray]:
    """Live problems per order bucket, for each group; reads two small columns."""
    columns = ["order", "reason", *([group_by] if group_by else [])]
    sizes: dict[str, np.ndarray] = {}
    for batch in scan(pool, columns):
        batch = batch.filter(pa.compute.is_null(batch["reason"]))
        orders = batch["order"].to_numpy()
        groups = np.array(batch[group_by].to_pylist() if group_by else [""] * len(orders))
        for group in np.unique(groups):
            sizes[str(group)] = sizes.get(str(group), 0) + buckets(orders[groups == group])
    return sizes


def _until_met(
    batches: Iterator[pa.Table],
    targets: dict[str, Target],
    group_by: str,
    coordinator: Any,
    progress: Progress,
) -> Iterator[pa.Table]:
    """The decided rows as they come, until every group has the keepers it wants."""
    met: set[str] = set()
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


def _batches(data: Dataset) -> Iterator[pa.Table]:
    batches: Any = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return iter(batches)


def _write(folder: Store, tables: Iterator[pa.Table]) -> None:
    sampled = (table.cast(SAMPLED) for table in tables)
    write_parts(folder, gather(sampled, PART_ROWS, PART_BYTES))


def _materialise(data: Dataset, folder: Store) -> Dataset:
    """The rows that an engine's stages gave, by way of the store: no lost node loses them."""
    _write(folder, _batches(data))
    paths = [folder.path(name) for name in folder.files("")]
    if not paths:
        return ray.data.from_arrow(SAMPLED.empty_table())
    return ray.data.read_parquet(paths, filesystem=folder.filesystem, schema=SAMPLED)


def kept_problems(run: Store, cutoffs: Cutoffs) -> list[KeptProblem]:
    """The problems that difficulty sampling kept, in their seeded order."""
    names = [field.name for field in fields(KeptProblem)]
    kept: list[KeptProblem] = []
    for batch in scan(run.within("decided"), [*names, "alive"]):
        rows = batch.filter(batch["alive"]).select(names).to_pylist()
        kept += [KeptProblem(**row) for row in rows if cutoffs.include(row)]
    return sorted(kept, key=lambda problem: problem.order)


def _yields(run: Store, sizes: dict[str, np.ndarray], cutoffs: Cutoffs) -> list[Yield]:
    sampled = dict.fromkeys(sizes, 0)
    kept = dict.fromkeys(sizes, 0)
    group_by = [cutoffs.group_by] if cutoffs.group_by else []
    for batch in scan(run.within("decided"), ["order", "alive", *group_by]):
        for row in filter(cutoffs.include, batch.to_pylist()):
            group = cutoffs.group(row)
            sampled[group] += 1
            kept[group] += row["alive"]
    return [
        extrapolate(group or "all", int(sizes[group].sum()), sampled[group], kept[group])
        for group in sorted(sizes)
    ]
