"""What a pilot measured: a smaller run of the same curation, read from its log and its manifest.

Pass rates and lengths come from the whole attempt log of its stages, so that several pilots in one
store add up; speeds, starting times and what is left of the rows come from its manifest.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import Verdict
from limo_ray.curate.difficulty import passes as passes_of
from limo_ray.plan.assumptions import AssumedStage, EngineSpeed, MeasuredStage
from limo_ray.plan.cluster import Allocation
from limo_ray.plan.config import NodeConfig, PlanConfig
from limo_ray.plan.forecast import PassForecast, forecast
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store

FEW = 50  # problems, below which a stage's pass rates are called uncertain
TRIALS = 30  # of the forecast that a pilot's speed is compared with


@dataclass(slots=True)
class Pilot:
    stages: dict[str, MeasuredStage] = field(default_factory=dict)
    tokens_per_s: dict[str, float] = field(default_factory=dict)
    """By engine, of one replica over the time that it was up."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """Empty for a pilot that did not end."""
    notes: list[str] = field(default_factory=list)


def read(config: PlanConfig, device: str, assumed: dict[str, AssumedStage]) -> Pilot:
    """Reads `config.pilot`.

    Args:
        config: of the plan.
        device: that engines whose device is auto would have.
        assumed: by stage.

    Raises ValueError for a folder that is no run, or a log without attempts.
    """
    run = Store(config.pilot)
    root, found, name = run.uri.rpartition("/runs/")
    if not found or "/" in name:
        raise ValueError(f"pilot: {config.pilot!r} is not a run directory (<store>/runs/<name>)")
    pilot = Pilot(manifest=run.read_json("manifest.json") or {})
    passes = passes_of(config, device, identify=not pilot.manifest)
    stages = [stage for pass_ in passes for stage in pass_.stages]
    fingerprints = pilot.manifest.get("fingerprints", {s.name: s.fingerprint for s in stages})
    columns = ["problem_id", "index", "verdict", "completion_tokens"]
    for stage in stages:
        log = AttemptLog(Store(root), fingerprints.get(stage.name, "none"))
        attempts = read_table(log.store, log.folder, columns)
        if not attempts.num_rows:
            pilot.notes.append(f"{stage.name}: the pilot has no attempts: all of it is assumed")
            continue
        correct = pc.equal(attempts["verdict"], Verdict.CORRECT.value).to_numpy()
        lengths = attempts["completion_tokens"].to_numpy()
        counts = outcome_counts(attempts)
        pilot.stages[stage.name] = MeasuredStage(
            counts, lengths[correct], lengths[~correct], assumed[stage.name]
        )
        _note_gaps(pilot, stage, counts)
    if not pilot.stages:
        raise ValueError(f"pilot: {config.pilot!r}: its log has no attempts")
    for name, up in pilot.manifest.get("engines", {}).items():
        own = [stage for stage in pilot.manifest["sampling"] if stage["engine"] == name]
        if tokens := sum(stage["tokens"].get("completion", 0) for stage in own):
            pilot.tokens_per_s[name] = tokens / up["seconds"]
    if not pilot.manifest:
        pilot.notes.append("the pilot has no manifest (it did not end): its log is this plan's")
    for name in {pass_.engine_name for pass_ in passes} - pilot.tokens_per_s.keys():
        pilot.notes.append(
            f"engine {name}: the pilot's manifest does not tell how long it was up, or it sampled "
            "nothing: its speed is assumed"
        )
    return pilot


def outcome_counts(attempts: pa.Table) -> np.ndarray:
    """(m, 3): correct, finished, and how many problems of the log have these.

    An attempt that was verified more than once counts as it was verified last.
    """
    keys = attempts.select(["problem_id", "index", "verdict"]).group_by(
        ["problem_id", "index"], use_threads=False
    )
    last = keys.aggregate([("verdict", "last")])
    correct = pc.equal(last["verdict_last"], Verdict.CORRECT.value).cast(pa.int64())
    problems = last.append_column("correct", correct).group_by("problem_id")
    pairs = problems.aggregate([("correct", "sum"), ("correct", "count")])
    kinds = pairs.group_by(["correct_sum", "correct_count"]).aggregate([([], "count_all")])
    columns = [kinds[name].to_numpy() for name in ("correct_sum", "correct_count", "count_all")]
    return np.unique(np.stack(columns, axis=1), axis=0)


def _note_gaps(pilot: Pilot, stage: Stage, counts: np.ndarray) -> None:
    """Notes what the log cannot say of a stage."""
    if (problems := int(counts[:, 2].sum())) < FEW:
        pilot.notes.append(f"{stage.name}: the pilot has attempts at {problems} problems only")
    if counts[:, 1].max() < 2 <= stage.rule.budget and stage.gate:
        pilot.notes.append(
            f"{stage.name}: the pilot made one attempt at each problem, the plan makes up to "
            f"{stage.rule.budget}: how pass rates spread around their mean is assumed"
        )
    for sampled in pilot.manifest.get("sampling", []):
        if sampled["name"] == stage.name and sampled["sampling"] != asdict(stage.sampling):
            pilot.notes.append(f"{stage.name}: the pilot sampled with other settings")


def calibrated(
    pilot: Pilot, stages: list[Stage], allocation: Allocation, assumed: EngineSpeed,
    sampler: SamplerConfig,
) -> EngineSpeed:  # fmt: skip
    """A speed with which the forecast of the pilot decodes as fast as the pilot did.

    A pilot is short: for much of the time its engines are not full, and its tokens per second are
    not those of a full engine. So the whole assumed curve is scaled.
    """
    name, manifest = allocation.name, pilot.manifest
    up, settings = manifest["engines"][name], manifest["config"]
    replicas, pool = max(1, up["replicas"]), max(1, manifest["counts"]["pool"])
    first = name == next(iter(manifest["engines"]))
    if first:  # of the others it cannot be told when they were asked for
        waited = manifest["seconds_by_step"]["sampling"] - up["seconds"] / replicas
        assumed = replace(assumed, start_s=max(0.0, waited))
    used = settings["engines"][name]
    scale = {key: used[key] for key in ("max_num_seqs", "min_replicas", "max_replicas")}
    engine, rng = replace(allocation.engine, **scale), np.random.default_rng(0)
    stages = [stage for stage in stages if stage.name in pilot.stages]
    forecasted = PassForecast(
        stages,
        [pilot.stages[stage.name].sample(rng, TRIALS) for stage in stages],
        replace(allocation, engine=engine, node=NodeConfig(), per_node=1, replicas=replicas),
        assumed.times(np.ones(TRIALS)), sampler, pool, rng,
    )  # fmt: skip
    alone = len(manifest["engines"]) == 1
    wanted = settings["difficulty"]["stop_after_kept"] if alone else 0
    came = {stage["name"]: stage["problems"] for stage in manifest["sampling"]}
    problems = pool if first else max(1, came[stages[0].name])
    forecast([forecasted], np.full(TRIALS, problems), wanted=wanted, rng=rng)
    tokens = sum(stage.tokens for stage in forecasted.results)
    rate = float(np.median(tokens / (forecasted.end - forecasted.ready) / replicas))
    return assumed.times(pilot.tokens_per_s[name] / rate)
