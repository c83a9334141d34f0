"""The plan: what a curation takes on a cluster, and how uncertain that is.

    python jobs/plan.py conf/curate/limo.yaml pool_rows=10_000_000

Each trial samples pass rates, lengths, speeds and the share of the rows that become problems from
what is assumed or what a pilot measured; `limo_ray.plan.forecast` computes the job for all of them.
"""

from dataclasses import dataclass

import numpy as np

from limo_ray.curate.difficulty import passes as passes_of
from limo_ray.curate.outline import outline as curation
from limo_ray.plan.assumptions import AssumedStage, EngineSpeed, factors
from limo_ray.plan.cluster import allocate, device, gpus
from limo_ray.plan.config import PlanConfig, StageAssumption
from limo_ray.plan.forecast import PassForecast, SamplingForecast, forecast
from limo_ray.plan.pilot import Pilot, read
from limo_ray.report.plan_table import Figures, render

ROWS_PER_S = 6700.0
"""Rows through the pool's steps per second and core (bench/pool/run.py: 13,400 on two cores), from
files at hand: a hub or a bucket may be slower."""
BYTES_PER_TOKEN = 1.0
"""In the attempt log (zstd), per completion token: 0.4 for 800 chains of thought, eight a problem,
1.3 for a small log of SmolLM2's."""
BYTES_PER_ATTEMPT = 40.0
"""In the attempt log beside the completion: 20 to 50 in logs of some hundred attempts."""
BYTES_PER_ROW = 170.0
"""Per row read, in pool and ledger: 131 in the pool for gsm8k's questions of 235 characters."""
MEASURED_SPEED_ERROR = 1.2  # of speeds that a pilot measured


@dataclass(slots=True)
class Plan:
    config: PlanConfig
    figures: Figures
    warnings: list[str]

    def summary(self) -> str:
        """The table, with warnings."""
        return render(self.config.name, self.figures, self.warnings)


def plan(config: PlanConfig, _: str = "cpu") -> Plan:
    """Forecasts the job; what a pilot measured goes before what is assumed.

    Raises ValueError for an engine that fits nowhere, and for a pilot without attempts.
    """
    assume, on = config.assume, device(config.cluster)
    trials, rng = config.trials, np.random.default_rng(config.seed)
    jobs = passes_of(config, on, identify=False)
    allocations = allocate(jobs, config.cluster)
    teacher = assume.stages.get("teacher") or StageAssumption()
    assumed = {
        stage.name: AssumedStage(
            assume.stages.get(stage.name, teacher), stage.sampling.max_tokens,
            assume.odds_error, assume.tokens_error,
        )
        for pass_ in jobs for stage in pass_.stages
    }  # fmt: skip
    pilot = read(config, on, assumed) if config.pilot else Pilot()
    known = assumed | pilot.stages
    live, pool_s = _pool(config, pilot)
    problems = np.maximum(1, (config.pool_rows * rng.beta(*live, trials)).round()).astype(int)
    total = round(float(np.median(problems)))
    passes = []
    for pass_, allocation in zip(jobs, allocations, strict=True):
        believed, error = config.speed(pass_.engine_name), assume.speed_error
        assert believed is not None, "PlanConfig.check"
        speed = EngineSpeed.of(believed, pass_.engine.max_num_seqs)
        slots = pass_.engine.max_num_seqs
        faster = pilot.tokens_per_s.get(pass_.engine_name, 0.0) * float(speed.step(slots)) / slots
        # the first engine never waits; of others it is the least that they can
        if faster > (0 if pass_ is jobs[0] else 1):
            speed, error = speed.times(faster), MEASURED_SPEED_ERROR
        speed = speed.times(factors(rng, error, trials))
        samples = [known[stage.name].sample(rng, trials) for stage in pass_.stages]
        passes.append(
            PassForecast(pass_.stages, samples, allocation, speed, config.sampler, total, rng)
        )
    groups = len(config.sources) if config.difficulty.per == "source" else 1
    wanted = config.difficulty.stop_after_kept * groups
    overlap = config.difficulty.overlap
    sampling = forecast(passes, problems, wanted=wanted, overlap=overlap, rng=rng)
    notes, reached = list(pilot.notes), float(sampling.reached.mean())
    if wanted and reached < 0.95:
        notes.append(
            f"the target of {wanted:,} is reached in {reached:.0%} of the trials only: more rows, "
            "a wider rule or a smaller difficulty.stop_after_kept are needed"
        )
    figures = _figures(config, pilot, problems, passes, sampling, pool_s)
    return Plan(config, figures, notes)


def _pool(config: PlanConfig, pilot: Pilot) -> tuple[tuple[float, float], float]:
    """Beta of the share of rows that become problems, and seconds of the pool's steps.

    These run on nodes without GPUs, or on all if there are none.
    """
    assume, manifest = config.assume, pilot.manifest
    live = (assume.live_share * assume.live_worth, (1 - assume.live_share) * assume.live_worth)
    if manifest:
        left, rows = manifest["counts"]["pool"], manifest["counts"]["input"]
        live = (left + 0.5, rows - left + 0.5)
    nodes = [node for node in config.cluster.nodes.values() if node.count]
    own = [node for node in nodes if not node.gpus] or nodes
    cores = max(1.0, sum(node.cpus * node.count for node in own))
    return live, assume.pool_s + config.pool_rows / ROWS_PER_S / cores


def _figures(
    config: PlanConfig, pilot: Pilot, problems: np.ndarray, passes: list[PassForecast],
    sampling: SamplingForecast, pool_s: float,
) -> Figures:  # fmt: skip
    """Nodes that are there all the time (start_s=0) cost as long as the job takes, others while
    they are used."""
    nodes = config.cluster.nodes.values()
    stages, engines = [], []
    for pass_ in passes:
        own = pass_.allocation
        dollars = own.engine.api.dollars
        price = own.node.price_per_hour * own.nodes if own.node.start_s else 0.0
        tokens = np.maximum(1, sum(each.tokens for each in pass_.results))
        for stage in pass_.results:
            hours = stage.tokens / tokens * (pass_.end - pass_.begin) / 3600
            prompts = stage.attempts * config.assume.prompt_tokens
            bill = prompts * dollars(1, 0) + stage.tokens * dollars(0, 1)
            stages.append({
                "name": stage.stage.name, "engine": own.name, "budget": stage.stage.rule.budget,
                "basis": "pilot" if stage.stage.name in pilot.stages else "assumed",
                "problems": stage.problems, "attempts": stage.attempts, "tokens": stage.tokens,
                "gpu_hours": gpus(own.engine) * own.replicas * hours, "cost": price * hours + bill,
                "bytes": stage.tokens * BYTES_PER_TOKEN + stage.attempts * BYTES_PER_ATTEMPT,
            })  # fmt: skip
        slots = own.engine.max_num_seqs
        work_s = tokens * pass_.speed.step(slots) / slots / own.replicas
        engines.append({
            "name": own.name, "node_type": own.node_type, "nodes": own.nodes,
            "replicas": own.replicas, "max_replicas": own.engine.max_replicas,
            "work_s": work_s, "span_s": pass_.end - pass_.begin,
            "busy": work_s / np.maximum(1e-9, pass_.end - pass_.ready),
            "preemptions": pass_.preemptions, "within": pass_.within / np.maximum(1, pass_.done),
        })  # fmt: skip
    seconds = config.assume.job_s + pool_s + sampling.seconds
    hourly = [(node, node.count * node.price_per_hour / 3600) for node in nodes]
    standing_cost = sum(price for node, price in hourly if not node.start_s) * seconds
    pool = {
        "bytes": config.pool_rows * BYTES_PER_ROW, "seconds": pool_s,
        "cost": sum(p * (pool_s + n.start_s) for n, p in hourly if n.start_s and not n.gpus),
    }  # fmt: skip
    found: Figures = {
        "rows": config.pool_rows, "live": problems, "sampled": sampling.sampled,
        "kept": sampling.kept, "sampling_s": sampling.seconds, "seconds": seconds,
        "standing_cost": standing_cost, "pool": pool, "stages": stages, "engines": engines,
    }  # fmt: skip
    for name in ("attempts", "tokens", "gpu_hours", "bytes", "cost"):
        found[name] = sum(stage[name] for stage in stages) + pool.get(name, 0)
    found["cost"] += standing_cost
    return found


def outline(config: PlanConfig, _: str = "cpu") -> str:
    """What would be planned, for --dry-run: the curation, and where its engines go."""
    on = device(config.cluster)
    lines = [curation(config, on), "cluster"]
    for own in allocate(passes_of(config, on, identify=False), config.cluster):
        lines.append(
            f"  {own.name}: {own.replicas} of at most {own.engine.max_replicas} replica(s) on "
            f"{own.nodes:.4g} node(s) of type {own.node_type}"
        )
    return "\n".join(lines)
