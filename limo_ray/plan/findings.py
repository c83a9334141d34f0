"""What all futures have in common: medians and intervals, by stage and in all."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from limo_ray.core.records import Verdict
from limo_ray.plan.basis import Basis
from limo_ray.plan.counts import Future, PassCount, StageCount
from limo_ray.plan.stop_rule_math import walk


@dataclass(slots=True)
class Figure:
    """A quantity over all futures."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class StageFindings:
    name: str
    engine: str
    basis: str
    """pilot or assumed."""
    problems: Figure
    kept: Figure
    attempts: Figure
    """Finished, and in the log."""
    per_problem: float
    """Attempts until a problem is decided, on the mean."""
    budget: int
    tokens: Figure
    gpu_hours: Figure
    bytes: Figure
    cost: Figure
    speculative: float
    """Share of the attempts."""
    verdicts: dict[str, float]
    """Share of the attempts."""


@dataclass(slots=True)
class EngineFindings:
    name: str
    kind: str
    replicas: int
    wanted: int
    nodes: float
    busy: float
    """Share of its slots that decode, while it is up."""
    full_s: Figure
    """Seconds that its work takes with all slots busy."""
    span_s: Figure
    """Seconds from asking for its nodes until it has no more work."""
    preemptions: Figure
    lost_tokens: float
    """Share of all that it decodes."""


@dataclass(slots=True)
class Findings:
    rows: int
    live: Figure
    sampled: Figure
    kept: Figure
    reached: float | None
    """Share of the futures in which the target is reached; None without one."""
    within: Figure | None
    """Share of the tokens that go to problems up to the last keeper, with a target."""
    stages: list[StageFindings]
    engines: list[EngineFindings]
    pool_s: Figure
    sampling_s: Figure
    seconds: Figure
    attempts: Figure
    tokens: Figure
    gpu_hours: Figure
    pool_bytes: float
    bytes: Figure
    pool_cost: Figure
    standing_cost: Figure
    cost: Figure
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def figures(base: Basis, futures: list[Future]) -> Findings:
    """Sums the futures up."""
    config = base.config

    def over(value: Callable[[Future], float]) -> Figure:
        return figure([value(future) for future in futures], config.interval)

    stages, engines = [], []
    for place, one in enumerate(base.passes):
        engines.append(_engine(base, futures, place))
        for number in range(len(one.stages)):
            stages.append(_stage(base, futures, place, number))
    with_target = base.wanted() > 0
    reached = float(np.mean([future.outcome.reached for future in futures]))
    pool_bytes = config.pool_rows * (base.pilot.bytes_per_row or config.assume.bytes_per_row)
    return Findings(
        rows=config.pool_rows,
        live=over(lambda f: f.live),
        sampled=over(lambda f: f.outcome.sampled),
        kept=over(lambda f: f.outcome.kept),
        reached=reached if with_target else None,
        within=over(_within) if with_target and reached else None,
        stages=stages,
        engines=engines,
        pool_s=over(lambda f: f.pool_s),
        sampling_s=over(lambda f: f.outcome.seconds),
        seconds=over(lambda f: f.seconds),
        attempts=over(lambda f: total(f, lambda s: s.attempts)),
        tokens=over(lambda f: total(f, lambda s: s.tokens)),
        gpu_hours=over(lambda f: sum(gpu_hours(base, f))),
        pool_bytes=pool_bytes,
        bytes=over(
            lambda f: pool_bytes + sum(_bytes(base, s) for p in f.outcome.passes for s in p.stages)
        ),
        pool_cost=over(lambda f: f.costs[1]),
        standing_cost=over(lambda f: f.costs[2]),
        cost=over(lambda f: sum(f.costs[0]) + f.costs[1] + f.costs[2]),
    )


def figure(values: list[float], interval: float) -> Figure:
    tail = (1 - interval) / 2
    low, median, high = np.quantile(values, [tail, 0.5, 1 - tail])
    return Figure(float(median), float(low), float(high))


def total(future: Future, value: Callable[[StageCount], float]) -> float:
    """Summed over all stages."""
    return sum(value(stage) for one in future.outcome.passes for stage in one.stages)


def _within(future: Future) -> float:
    return total(future, lambda s: s.within_tokens) / max(1, total(future, lambda s: s.tokens))


def gpu_hours(base: Basis, future: Future) -> list[float]:
    """Of each pass: the GPUs that its replicas hold, over its span."""
    found = []
    for one, share, span in zip(base.passes, base.places, future.spans, strict=True):
        engine = one.engine
        gpus = 0.0
        if engine.bundles:
            gpus = sum(bundle.get("GPU", 0) for bundle in engine.bundles)
        elif engine.device == "gpu":
            gpus = engine.tensor_parallel * engine.pipeline_parallel
        found.append(gpus * share.replicas * span / 3600)
    return found


def _bytes(base: Basis, stage: StageCount) -> float:
    if base.pilot.bytes_per_token:
        return stage.tokens * base.pilot.bytes_per_token
    assume = base.config.assume
    return stage.tokens * assume.bytes_per_token + stage.attempts * assume.bytes_per_attempt


def _share(count: PassCount, number: int) -> float:
    """Of a pass's tokens those of one stage."""
    return count.stages[number].tokens / max(1, sum(stage.tokens for stage in count.stages))


def _stage(base: Basis, futures: list[Future], place: int, number: int) -> StageFindings:
    stage = base.passes[place].stages[number]
    belief = base.stages[stage.name]

    def over(value: Callable[[Future], float]) -> Figure:
        return figure([value(future) for future in futures], base.config.interval)

    def count(future: Future) -> StageCount:
        return future.outcome.passes[place].stages[number]

    attempts = sum(count(future).attempts for future in futures)
    correct = sum(count(future).correct for future in futures) / max(1, attempts)
    others = base.pilot.verdicts.get(stage.name)
    if others is None:  # what is as long as it may be was cut
        cut = float((belief.truth(None).other >= stage.sampling.max_tokens).mean())
        others = {Verdict.TRUNCATED.value: cut, Verdict.WRONG.value: 1 - cut}
    verdicts = {Verdict.CORRECT.value: correct}
    verdicts |= {name: share * (1 - correct) for name, share in others.items()}
    return StageFindings(
        name=stage.name,
        engine=base.passes[place].engine_name,
        basis=belief.basis,
        problems=over(lambda f: count(f).problems),
        kept=over(lambda f: count(f).kept),
        attempts=over(lambda f: count(f).attempts),
        per_problem=float(walk(stage.rule).attempts @ belief.truth(None).rates),
        budget=stage.rule.budget,
        tokens=over(lambda f: count(f).tokens),
        gpu_hours=over(
            lambda f: gpu_hours(base, f)[place] * _share(f.outcome.passes[place], number)
        ),
        bytes=over(lambda f: _bytes(base, count(f))),
        cost=over(lambda f: f.costs[0][place] * _share(f.outcome.passes[place], number)),
        speculative=sum(count(future).speculative for future in futures) / max(1, attempts),
        verdicts=verdicts,
    )


def _engine(base: Basis, futures: list[Future], place: int) -> EngineFindings:
    share = base.places[place]
    sequences = base.passes[place].engine.max_num_seqs
    counts = [future.outcome.passes[place] for future in futures]
    interval = base.config.interval
    decoded = sum(count.decoded for count in counts)
    lost = sum(count.lost_tokens for count in counts)
    up = sum(count.up for count in counts)
    return EngineFindings(
        name=share.engine,
        kind=share.kind,
        replicas=share.replicas,
        wanted=share.wanted,
        nodes=share.nodes,
        busy=min(1.0, sum(count.decoding for count in counts) / sequences / max(1e-9, up)),
        full_s=figure([c.decoding / sequences / share.replicas for c in counts], interval),
        span_s=figure([future.spans[place] for future in futures], interval),
        preemptions=figure([count.preemptions for count in counts], interval),
        lost_tokens=lost / max(1.0, decoded + lost),
    )
