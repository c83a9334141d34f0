"""The plan: what a curation takes on a cluster, and how uncertain that is.

    python jobs/plan.py conf/curate/limo.yaml pool_rows=10_000_000

Each trial samples pass rates, lengths, speeds and the share of the rows that become problems from
what is assumed or what a pilot measured; `limo_ray.plan.forecast` computes the job for all of them.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limo_ray.curate.difficulty import passes as passes_of
from limo_ray.curate.outline import outline as curation
from limo_ray.plan.assumptions import AssumedStage, EngineSpeed, MeasuredStage, factors
from limo_ray.plan.cluster import Allocation, allocate, device, gpus
from limo_ray.plan.config import PlanConfig, StageAssumption
from limo_ray.plan.forecast import PassForecast, SamplingForecast, forecast
from limo_ray.plan.pilot import Pilot, calibrated, read
from limo_ray.plan.report import Figures, render, warnings
from limo_ray.sampling.passes import Pass


@dataclass(slots=True)
class Plan:
    config: PlanConfig
    figures: Figures
    warnings: list[str]
    took_s: float

    def summary(self) -> str:
        """The table, with warnings."""
        return render(self.figures, self.warnings, self.config, self.took_s)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: of arrays the median over the trials and the interval."""
        tail = (1 - self.config.interval) / 2

        def plain(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                median, low, high = np.quantile(value, [0.5, tail, 1 - tail]).tolist()
                return {"median": median, "low": low, "high": high}
            if isinstance(value, dict):
                return {name: plain(each) for name, each in value.items()}
            return [plain(each) for each in value] if isinstance(value, list) else value

        return {**plain(self.figures), "warnings": self.warnings}


@dataclass(slots=True)
class Inputs:
    """What a plan stands on."""

    passes: list[Pass]
    allocations: list[Allocation]
    stages: dict[str, AssumedStage | MeasuredStage]
    pilot: Pilot


def gather(config: PlanConfig) -> Inputs:
    """What a pilot measured goes before what is assumed.

    Raises ValueError for an engine that fits nowhere, and for a pilot without attempts.
    """
    assume, on = config.assume, device(config.cluster)
    passes = passes_of(config, on, identify=False)
    teacher = assume.stages.get("teacher") or StageAssumption()
    assumed = {
        stage.name: AssumedStage(
            assume.stages.get(stage.name, teacher), stage.sampling.max_tokens,
            assume.odds_error, assume.tokens_error,
        )
        for pass_ in passes for stage in pass_.stages
    }  # fmt: skip
    pilot = read(config, on, assumed) if config.pilot else Pilot()
    return Inputs(passes, allocate(passes, config.cluster), assumed | pilot.stages, pilot)


def plan(config: PlanConfig, _: str = "cpu") -> Plan:
    """Forecasts the job, and writes the plan as JSON if asked.

    Raises ValueError as `gather`, and for an engine of whose speed nothing is known.
    """
    started, rng = time.time(), np.random.default_rng(config.seed)
    inputs, trials = gather(config), config.trials
    live, pool_s = _pool(config, inputs.pilot)
    problems = np.maximum(1, (config.pool_rows * rng.beta(*live, trials)).round()).astype(int)
    passes = []
    for pass_, allocation in zip(inputs.passes, inputs.allocations, strict=True):
        speed, error = _speed(config, pass_, allocation, inputs.pilot)
        passes.append(
            PassForecast(
                pass_.stages, [inputs.stages[s.name].sample(rng, trials) for s in pass_.stages],
                allocation, speed.times(factors(rng, error, trials)), config.sampler,
                round(float(np.median(problems))), rng,
            )
        )  # fmt: skip
    groups = len(config.sources) if config.difficulty.per == "source" else 1
    wanted = config.difficulty.stop_after_kept * groups
    overlap = config.difficulty.overlap
    sampling = forecast(passes, problems, wanted=wanted, overlap=overlap, rng=rng)
    notes = inputs.pilot.notes
    if wanted and config.difficulty.per != "all":
        notes.append(
            f"stop_after_kept counts per {config.difficulty.per}: planned as one target, as if all "
            "groups were alike"
        )
    found = _figures(config, inputs.pilot, problems, passes, sampling, pool_s)
    found["reached"] = float(sampling.reached.mean()) if wanted else None
    notes += warnings(config, problems, passes, found["reached"], wanted)
    result = Plan(config, found, notes, time.time() - started)
    if config.out:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        Path(config.out).write_text(json.dumps(result.as_dict(), indent=2) + "\n")
    return result


def _speed(
    config: PlanConfig, pass_: Pass, allocation: Allocation, pilot: Pilot
) -> tuple[EngineSpeed, float]:
    """With the factor by which it may be off."""
    name, engine = pass_.engine_name, pass_.engine
    assumed = config.assume.speeds.get(name) or config.assume.models.get(engine.model)
    if assumed is None:
        raise ValueError(
            f"assume.speeds.{name}: nothing is known of the speed of {engine.model}: name "
            f"assume.speeds.{name}.one, .full and .start_s"
        )
    try:
        speed = EngineSpeed.of(assumed, engine.max_num_seqs)
    except ValueError as error:
        raise ValueError(f"assume.speeds.{name}: {error}") from None
    if name not in pilot.tokens_per_s:
        return speed, config.assume.speed_error
    measured = calibrated(pilot, pass_.stages, allocation, speed, config.sampler)
    return measured, config.assume.measured_speed_error


def _pool(config: PlanConfig, pilot: Pilot) -> tuple[tuple[float, float], float]:
    """Beta of the share of rows that become problems, and seconds of the pool's steps.

    These run on nodes without GPUs, or on all if there are none.
    """
    assume, manifest = config.assume, pilot.manifest
    live = (assume.live_share * assume.live_worth, (1 - assume.live_share) * assume.live_worth)
    seconds = assume.pool_s
    if manifest:
        left, rows = manifest["counts"]["pool"], manifest["counts"]["input"]
        live = (left + 0.5, rows - left + 0.5)
        reading = rows / assume.rows_per_s / max(1, manifest["machine"]["cpus"])
        seconds = max(0.0, manifest["seconds_by_step"]["pool"] - reading)
    nodes = [node for node in config.cluster.nodes.values() if node.count]
    own = [node for node in nodes if not node.gpus] or nodes
    cores = max(1.0, sum(node.cpus * node.count for node in own))
    return live, seconds + config.pool_rows / assume.rows_per_s / cores


def _figures(
    config: PlanConfig, pilot: Pilot, problems: np.ndarray, passes: list[PassForecast],
    sampling: SamplingForecast, pool_s: float,
) -> Figures:  # fmt: skip
    """Nodes that are there all the time (start_s=0) cost as long as the job takes, others while
    they are used."""
    assume, nodes = config.assume, config.cluster.nodes.values()
    stages, engines = [], []
    for pass_ in passes:
        own = pass_.allocation
        price = own.node.price_per_hour * own.nodes if own.node.start_s else 0.0
        for stage in pass_.results:
            share = stage.tokens / np.maximum(1, sum(each.tokens for each in pass_.results))
            hours = share * (pass_.end - pass_.begin) / 3600
            size = stage.tokens * assume.bytes_per_token + stage.attempts * assume.bytes_per_attempt
            stages.append({
                "name": stage.stage.name, "engine": own.name, "budget": stage.stage.rule.budget,
                "basis": "pilot" if stage.stage.name in pilot.stages else "assumed",
                "problems": stage.problems, "kept": stage.kept, "attempts": stage.attempts,
                "tokens": stage.tokens, "gpu_hours": gpus(own.engine) * own.replicas * hours,
                "bytes": size, "cost": price * hours,
            })  # fmt: skip
        engines.append({
            "name": own.name, "node_type": own.node_type, "nodes": own.nodes,
            "replicas": own.replicas, "max_replicas": own.engine.max_replicas,
            "busy": pass_.busy, "full_s": pass_.work_s, "span_s": pass_.end - pass_.begin,
            "preemptions": pass_.preemptions, "within": pass_.within / np.maximum(1, pass_.done),
        })  # fmt: skip
    seconds = assume.job_s + pool_s + sampling.seconds
    hourly = [(node, node.count * node.price_per_hour / 3600) for node in nodes]
    pool_cost = sum(p * (pool_s + n.start_s) for n, p in hourly if n.start_s and not n.gpus)
    standing_cost = sum(price for node, price in hourly if not node.start_s) * seconds
    pool_bytes = config.pool_rows * assume.bytes_per_row
    found: Figures = {
        "rows": config.pool_rows, "live": problems, "sampled": sampling.sampled,
        "kept": sampling.kept, "pool_s": pool_s, "pool_bytes": pool_bytes, "pool_cost": pool_cost,
        "sampling_s": sampling.seconds, "seconds": seconds, "standing_cost": standing_cost,
        "stages": stages, "engines": engines,
    }  # fmt: skip
    for name in ("attempts", "tokens", "gpu_hours", "bytes", "cost"):
        found[name] = sum(stage[name] for stage in stages)
    found["bytes"] += pool_bytes
    found["cost"] += pool_cost + standing_cost
    return found


def outline(config: PlanConfig, _: str = "cpu") -> str:
    """What would be planned, for --dry-run: the curation, and where its engines go."""
    inputs = gather(config)
    lines = [curation(config, device(config.cluster)), "cluster"]
    for own in inputs.allocations:
        lines.append(
            f"  {own.name}: {own.replicas} of at most {own.engine.max_replicas} replica(s) on "
            f"{own.nodes:.4g} node(s) of type {own.node_type}"
        )
    for name in inputs.stages:
        lines.append(f"  {name}: {'pilot' if name in inputs.pilot.stages else 'assumed'}")
    return "\n".join(lines)
