"""What a pilot measured: a smaller run of the same curation, read from its log and its manifest.

Pass rates and lengths come from the whole attempt log of its stages, so that several pilots in one
store add up; speeds and what is left of the rows come from its manifest.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import Verdict
from limo_ray.curate.difficulty import passes as passes_of
from limo_ray.plan.assumptions import AssumedStage, MeasuredStage
from limo_ray.plan.config import PlanConfig
from limo_ray.storage.store import Store


@dataclass(slots=True)
class Pilot:
    stages: dict[str, MeasuredStage] = field(default_factory=dict)
    tokens_per_s: dict[str, float] = field(default_factory=dict)
    """By engine, of one replica over the time that it was up, waiting included."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """Empty for a pilot that did not end: its log is then that of the plan's own settings."""
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
    sampled = pilot.manifest.get("sampling", [])
    settings = {each["name"]: each["sampling"] for each in sampled}
    for stage in stages:
        log = AttemptLog(Store(root), fingerprints.get(stage.name, "none"))
        columns = ["problem_id", "index", "verdict", "completion_tokens"]
        attempts = read_table(log.store, log.folder, columns)
        if not attempts.num_rows:
            continue
        correct = pc.equal(attempts["verdict"], Verdict.CORRECT.value).to_numpy()
        lengths = attempts["completion_tokens"].to_numpy()
        pilot.stages[stage.name] = MeasuredStage(
            outcome_counts(attempts), lengths[correct], lengths[~correct], assumed[stage.name]
        )
        if settings.get(stage.name, asdict(stage.sampling)) != asdict(stage.sampling):
            pilot.notes.append(f"{stage.name}: the pilot sampled with other settings")
    if not pilot.stages:
        raise ValueError(f"pilot: {config.pilot!r}: its log has no attempts")
    for name, up in pilot.manifest.get("engines", {}).items():
        own = [stage for stage in sampled if stage["engine"] == name]
        if tokens := sum(stage["tokens"].get("completion", 0) for stage in own):
            pilot.tokens_per_s[name] = tokens / up["seconds"]
    return pilot


def outcome_counts(attempts: pa.Table) -> np.ndarray:
    """(m, 3): correct, finished, and how many problems of the log have these.

    An attempt that was verified more than once counts as it was verified last.
    """
    last = attempts.group_by(["problem_id", "index"], use_threads=False).aggregate(
        [("verdict", "last")]
    )
    correct = pc.equal(last["verdict_last"], Verdict.CORRECT.value).cast(pa.int64())
    problems = last.append_column("correct", correct).group_by("problem_id")
    pairs = problems.aggregate([("correct", "sum"), ("correct", "count")])
    columns = [pairs["correct_sum"].to_numpy(), pairs["correct_count"].to_numpy()]
    kinds, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    return np.column_stack([kinds, counts])
