"""What a pilot tells: a smaller run of the same curation, read from its log and its manifest.

Pass rates and lengths come from the whole attempt log of its stages, so that several pilots in one
store add up; speeds, starting times and what is left of the rows come from its manifest.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.attempts.index import VERDICTS, AttemptIndex
from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import Verdict
from limo_ray.curate.difficulty import passes as passes_of
from limo_ray.engines.base import SamplingConfig
from limo_ray.plan.assumptions import MeasuredStage, Speed
from limo_ray.plan.config import PlanConfig, StageAssumption
from limo_ray.plan.events import simulate
from limo_ray.plan.replica import PassModel
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store

FEW = 50  # problems, below which a stage's pass rates are called uncertain


@dataclass(slots=True)
class Measured:
    """An engine as the pilot saw it."""

    tokens_per_s: float
    """Of one replica, over the time that it was up."""
    start_s: float | None
    """Until its engine was up, where that can be told."""


@dataclass(slots=True)
class Pilot:
    stages: dict[str, MeasuredStage] = field(default_factory=dict)
    verdicts: dict[str, dict[str, float]] = field(default_factory=dict)
    """By stage the share of each verdict among the attempts that are not correct."""
    engines: dict[str, Measured] = field(default_factory=dict)
    live: tuple[int, int] | None = None
    """Problems left, and rows read."""
    pool_s: float | None = None
    bytes_per_token: float | None = None
    bytes_per_row: float | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(config: PlanConfig, device: str, assumed: dict[str, StageAssumption]) -> Pilot:
    """Reads `config.pilot`.

    Args:
        config: of the plan.
        device: that engines whose device is auto would have.
        assumed: by stage, for what the pilot does not tell.

    Raises ValueError for a folder that is no run, or a log without attempts.
    """
    run = Store(config.pilot)
    root, found, name = run.uri.rpartition("/runs/")
    if not found or "/" in name:
        raise ValueError(f"pilot: {config.pilot!r} is not a run directory (<store>/runs/<name>)")
    store = Store(root)
    manifest = run.read_json("manifest.json") or {}
    pilot = Pilot(manifest=manifest)
    if manifest:
        prints = manifest["fingerprints"]
    else:
        pilot.notes.append(
            "the pilot has no manifest (it did not end): speeds are assumed, and its log is that "
            "of this plan's models and sampling"
        )
        prints = {s.name: s.fingerprint for one in passes_of(config, device) for s in one.stages}
    stored = tokens = 0
    for stage in [
        stage for one in passes_of(config, device, identify=False) for stage in one.stages
    ]:
        log = AttemptLog(store, prints.get(stage.name, "none"))
        table = read_table(store, log.folder, ["verdict", "completion_tokens", "prompt_tokens"])
        if not table.num_rows:
            pilot.notes.append(f"{stage.name}: the pilot has no attempts: all of it is assumed")
            continue
        correct = pc.equal(table["verdict"], Verdict.CORRECT.value).to_numpy()
        lengths = table["completion_tokens"].to_numpy()
        counts = outcome_counts(log.read_index())
        prompt = float(table["prompt_tokens"].to_numpy().mean())
        pilot.stages[stage.name] = MeasuredStage(
            counts, lengths[correct], lengths[~correct], prompt, assumed[stage.name]
        )
        others = table["verdict"].filter(pa.array(~correct))
        pilot.verdicts[stage.name] = {
            each["values"]: each["counts"] / len(others)
            for each in pc.value_counts(others).to_pylist()
        }
        stored += _packed(store, log.folder)
        tokens += int(lengths.sum())
        _judge(pilot, stage, counts)
    if not pilot.stages:
        raise ValueError(f"pilot: {config.pilot!r}: its log has no attempts")
    pilot.bytes_per_token = stored / max(1, tokens)
    if manifest:
        _from_manifest(pilot, run, config)
    return pilot


def outcome_counts(fold: AttemptIndex) -> np.ndarray:
    """(m, 3): correct, finished, and how many problems of the log have these.

    A draw that was judged more than once counts as it was judged last.
    """
    order = np.lexsort((fold.index, fold.low, fold.high))  # stable: of one draw as it was logged
    keys = np.stack([fold.high, fold.low, fold.index.astype(np.uint64)])[:, order]
    last = np.append((keys[:, 1:] != keys[:, :-1]).any(axis=0), True)
    high, low = keys[0][last], keys[1][last]
    new = np.insert((high[1:] != high[:-1]) | (low[1:] != low[:-1]), 0, True)
    problem = np.cumsum(new) - 1
    correct = fold.verdict[order][last] == VERDICTS.index(Verdict.CORRECT)
    pairs = np.stack([np.bincount(problem, correct), np.bincount(problem)], axis=1).astype(int)
    kinds, problems = np.unique(pairs, axis=0, return_counts=True)
    return np.column_stack([kinds, problems])


def _judge(pilot: Pilot, stage: Stage, counts: np.ndarray) -> None:
    """Notes on what the log cannot tell of a stage."""
    problems, most = int(counts[:, 2].sum()), int(counts[:, 1].max())
    if problems < FEW:
        pilot.notes.append(f"{stage.name}: the pilot has attempts at {problems} problems only")
    if most < stage.rule.budget and stage.gate and most < 2:
        pilot.notes.append(
            f"{stage.name}: the pilot made one attempt at each problem, the plan makes up to "
            f"{stage.rule.budget}: how pass rates spread around their mean is assumed"
        )
    for told in pilot.manifest.get("sampling", []):
        if told["name"] == stage.name and told["sampling"] != asdict(stage.sampling):
            pilot.notes.append(f"{stage.name}: the pilot sampled with other settings")


def _from_manifest(pilot: Pilot, run: Store, config: PlanConfig) -> None:
    manifest = pilot.manifest
    counts = manifest["counts"]
    pilot.live = (counts["pool"], counts["input"])
    pilot.pool_s = manifest["seconds_by_step"]["pool"]
    sizes = [_packed(run, name) for name in ("pool", "ledger", "decided")]
    pilot.bytes_per_row = sum(sizes) / max(1, counts["input"])
    sampling = manifest["seconds_by_step"]["sampling"]
    for place, (name, up) in enumerate(manifest.get("engines", {}).items()):
        own = [told for told in manifest["sampling"] if told["engine"] == name]
        drawn = sum(told["tokens"].get("completion", 0) for told in own)
        if not up["seconds"] or not drawn:
            pilot.notes.append(f"engine {name}: the pilot's own run drew nothing: speed assumed")
            continue
        start = max(0.0, sampling - up["seconds"] / up["replicas"]) if place == 0 else None
        pilot.engines[name] = Measured(drawn / up["seconds"], start)
    if not pilot.engines:
        pilot.notes.append(
            "the pilot's manifest does not tell how long engines were up: speeds are assumed"
        )


def calibrated(pilot: Pilot, name: str, assumed: Speed) -> Speed:
    """An engine's speed such that the simulated pilot decodes as fast as the real one did.

    A pilot is short: its engines are not full for much of the time, and its tokens per second are
    not those of a full engine. So the pilot is simulated with its own settings, and the assumed
    curve, from one sequence to all of them, is scaled as a whole.
    """
    measured = pilot.engines[name]
    manifest = pilot.manifest
    told = [each for each in manifest["sampling"] if each["engine"] == name]
    settings = manifest["config"]
    stages = [
        Stage(
            name=each["name"], rule=StopRule(**each["rule"]), fingerprint="",
            sampling=SamplingConfig(**each["sampling"]), gate=each["name"] in ("weak", "strong"),
        )
        for each in told if each["name"] in pilot.stages
    ]  # fmt: skip
    engine = settings["engines"][name]
    slots = engine["max_num_seqs"]
    start_s = assumed.start_s if measured.start_s is None else measured.start_s
    curve = replace(assumed, start_s=start_s)
    first = manifest["sampling"][0]["engine"] == name
    model = PassModel(
        stages=stages,
        truths=[pilot.stages[stage.name].truth(None) for stage in stages],
        speed=curve,
        sequences=slots,
        replicas=max(1, manifest["engines"][name]["replicas"]),
        scale=(engine["min_replicas"], engine["max_replicas"]),
        total=max(1, manifest["counts"]["pool"]),
        flush_s=settings["sampler"]["flush_s"],
        speculative_share=settings["sampler"]["speculative_share"],
    )
    all_of_it = len({each["engine"] for each in manifest["sampling"]}) == 1
    wanted = settings["difficulty"]["stop_after_kept"] if all_of_it else 0
    problems = manifest["counts"]["pool"] if first else told[0]["problems"]
    rates = []
    for seed in range(3):
        outcome = simulate([model], max(1, problems), wanted=wanted, seed=seed)
        count = outcome.passes[0]
        rates.append(sum(stage.tokens for stage in count.stages) / max(1e-9, count.up))
    return curve.times(measured.tokens_per_s / float(np.mean(rates)))


def _packed(store: Store, folder: str) -> int:
    """Bytes of a folder's columns; small files have footers beside, which large ones hardly do."""
    total = 0
    for name in store.files(folder):
        path = store.path(f"{folder}/{name}")
        metadata = pq.read_metadata(path, filesystem=store.filesystem)
        for group in range(metadata.num_row_groups):
            columns = metadata.row_group(group)
            total += sum(
                columns.column(place).total_compressed_size for place in range(columns.num_columns)
            )
    return total
