"""All that a plan stands on: stages, replicas, and what is believed of them."""

import math
from dataclasses import dataclass, field

import numpy as np

from limo_ray.curate.difficulty import passes as passes_of
from limo_ray.plan import pilot as pilots
from limo_ray.plan.assumptions import AssumedStage, MeasuredStage, Speed, factor
from limo_ray.plan.cluster import Place, device, place
from limo_ray.plan.config import PlanConfig, StageAssumption
from limo_ray.plan.pilot import Pilot
from limo_ray.plan.replica import PassModel
from limo_ray.sampling.passes import Pass


@dataclass(slots=True)
class Basis:
    config: PlanConfig
    passes: list[Pass]
    places: list[Place]
    stages: dict[str, AssumedStage | MeasuredStage]
    speeds: list[tuple[Speed, float]]
    """Of each pass, with the factor by which it may be off."""
    live: tuple[float, float]
    """Beta of the share of rows that become problems."""
    pool_s: float
    """Seconds of the pool's steps beside what each row takes."""
    pilot: Pilot = field(default_factory=Pilot)
    notes: list[str] = field(default_factory=list)

    def models(self, rng: np.random.Generator | None) -> list[PassModel]:
        """The passes as they are in one trial; without a generator, the central one."""
        config, found = self.config, []
        problems = round(config.pool_rows * self.live[0] / sum(self.live))
        for one, share, (speed, error) in zip(self.passes, self.places, self.speeds, strict=True):
            found.append(
                PassModel(
                    stages=one.stages,
                    truths=[self.stages[stage.name].truth(rng) for stage in one.stages],
                    speed=speed.times(factor(rng, error)) if rng else speed,
                    sequences=one.engine.max_num_seqs,
                    replicas=share.replicas,
                    scale=(one.engine.min_replicas, one.engine.max_replicas),
                    total=max(1, problems),
                    per_node=share.per_node,
                    node_start_s=share.node.start_s,
                    preemptions_per_hour=share.node.preemptions_per_hour,
                    partial_tokens=config.sampler.partial_tokens or math.inf,
                    flush_s=config.sampler.flush_s,
                    speculative_share=config.sampler.speculative_share,
                )
            )
        return found

    def wanted(self) -> int:
        """Keepers that end the job."""
        groups = len(self.config.sources) if self.config.difficulty.per == "source" else 1
        return self.config.difficulty.stop_after_kept * groups


def basis(config: PlanConfig) -> Basis:
    """Puts it together; a pilot's word goes before an assumption.

    Raises ValueError for an engine that fits nowhere, or of whose speed nothing is known, and for
    a pilot that tells nothing.
    """
    on = device(config.cluster)
    passes = passes_of(config, on, identify=False)
    places = place(passes, config.cluster)
    assumed = {stage.name: _assumed(config, stage.name) for one in passes for stage in one.stages}
    told = pilots.read(config, on, assumed) if config.pilot else Pilot()
    stages: dict[str, AssumedStage | MeasuredStage] = {}
    for stage in [stage for one in passes for stage in one.stages]:
        assume = config.assume
        stages[stage.name] = told.stages.get(stage.name) or AssumedStage(
            assumed[stage.name], stage.sampling.max_tokens, assume.odds_error, assume.tokens_error
        )
    speeds = [_speed(config, one, told) for one in passes]
    share, worth = config.assume.live_share, config.assume.live_worth
    live, pool_s = (share * worth, (1 - share) * worth), config.assume.pool_s
    if told.live:
        left, rows = told.live
        live = (left + 0.5, rows - left + 0.5)
        cores = told.manifest["machine"]["cpus"]
        pool_s = max(0.0, (told.pool_s or 0) - rows / config.assume.rows_per_s / max(1, cores))
    notes = list(told.notes)
    if config.difficulty.stop_after_kept and config.difficulty.per != "all":
        notes.append(
            f"stop_after_kept counts per {config.difficulty.per}: planned as one target, as if all "
            "groups were alike"
        )
    return Basis(config, passes, places, stages, speeds, live, pool_s, told, notes)


def _assumed(config: PlanConfig, name: str) -> StageAssumption:
    stages = config.assume.stages
    if name in stages:
        return stages[name]
    return stages.get("teacher") or StageAssumption()


def _speed(config: PlanConfig, one: Pass, told: Pilot) -> tuple[Speed, float]:
    name, engine = one.engine_name, one.engine
    assumed = config.assume.speeds.get(name) or config.assume.models.get(engine.model)
    if assumed is None:
        raise ValueError(
            f"assume.speeds.{name}: nothing is known of the speed of {engine.model}: name "
            f"assume.speeds.{name}.one, .full and .start_s"
        )
    try:
        curve = Speed.of(assumed, engine.max_num_seqs)
    except ValueError as error:
        raise ValueError(f"assume.speeds.{name}: {error}") from None
    if name not in told.engines:
        return curve, config.assume.speed_error
    return pilots.calibrated(told, name, curve), config.assume.measured_speed_error
