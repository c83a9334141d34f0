"""The results of an evaluation: gathered from its models' attempts, and written to its folder."""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from limo_ray.core.records import Attempt
from limo_ray.evaluate import results, results_table
from limo_ray.evaluate.attempts import ModelAttempts, SampledCounts
from limo_ray.evaluate.items import BenchmarkItems
from limo_ray.evaluate.models import EvaluatedModel
from limo_ray.report.evaluation import render_evaluation
from limo_ray.storage.store import Store

ITEM = pa.schema(
    [
        ("benchmark", pa.string()), ("item", pa.int32()), ("problem_id", pa.string()),
        ("model", pa.string()), ("correct", pa.int32()), ("attempts", pa.int32()),
        ("verdicts", pa.list_(pa.string())), ("extracted", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.int32())),
    ]
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class ModelRun:
    """One model with all its attempts: a list for each benchmark, of a list for each item."""

    model: EvaluatedModel
    wanted: list[ModelAttempts]
    counts: SampledCounts
    attempts: list[list[list[Attempt]]]


def results_of(
    runs: list[ModelRun], trained_on: dict[str, Any] | None, before: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Scores, comparisons and notes, for results.json.

    Args:
        runs: of each model, the first one being compared with each other one.
        trained_on: the contamination check.
        before: results of this evaluation's last run; empty for none.
        notes: to which those on items and scores are added.
    """
    benchmarks = [asked.benchmark for asked in runs[0].wanted]
    found: dict[str, Any] = {
        "runs": [_model_results(run, trained_on) for run in runs],
        "benchmarks": [_benchmark_facts(asked) for asked in runs[0].wanted],
        "comparisons": _comparisons(runs),
        "contamination": trained_on,
    }
    found["notes"] = [
        *(note for benchmark in benchmarks for note in benchmark.notes),
        *_changed(before, benchmarks), *notes, *results.notes(found),
    ]  # fmt: skip
    return found


def _model_results(run: ModelRun, trained_on: dict[str, Any] | None) -> dict[str, Any]:
    scored = {}
    contaminated = (trained_on or {"benchmarks": {}})["benchmarks"]
    for asked, attempts in zip(run.wanted, run.attempts, strict=True):
        items, longest = asked.benchmark, asked.protocol.sampling.max_tokens
        scores = results.scores(
            attempts, items.problems, items.by, asked.protocol.ks(), longest
        ) | {"fingerprint": asked.fingerprint, "protocol": asked.protocol_name}  # fmt: skip
        seen = set(contaminated.get(items.name, {"items": []})["items"])
        clean = [index for index, number in enumerate(items.numbers) if number not in seen]
        if seen and clean:
            rest = [attempts[index] for index in clean]
            problems = [items.problems[index] for index in clean]
            scores["clean"] = results.scores(rest, problems, [], [], longest)["pass@1"]
        scored[items.name] = scores
    mean = results.mean_over_benchmarks([score["pass@1"] for score in scored.values()])
    return run.model.facts() | {"scores": scored, "mean": mean, "attempts": asdict(run.counts)}


def _benchmark_facts(asked: ModelAttempts) -> dict[str, Any]:
    return asked.benchmark.facts() | {
        "protocol": asked.protocol_name, "attempts": asked.protocol.attempts,
        "sampling": asdict(asked.protocol.sampling),
    }  # fmt: skip


def _comparisons(runs: list[ModelRun]) -> list[dict[str, Any]]:
    """The first model against each other one, on every benchmark."""
    first, *others = runs
    found = []
    for other in others:
        for index, asked in enumerate(first.wanted):
            a, b = first.attempts[index], other.attempts[index]
            names = {
                "benchmark": asked.benchmark.name, "a": first.model.label, "b": other.model.label
            }  # fmt: skip
            found.append(names | results.versus(a, b, asked.benchmark.numbers))
    results.adjust(found)
    return found


def _changed(before: dict[str, Any], benchmarks: list[BenchmarkItems]) -> list[str]:
    """Notes on benchmarks whose items are not those of this evaluation's last run."""
    known = {facts["name"]: facts["checksum"] for facts in before.get("benchmarks", [])}
    return [
        f"{items.name}: its items have changed since the last run of this evaluation (checksum "
        f"{known[items.name]} then, {items.checksum} now): the two are different tests"
        for items in benchmarks
        if known.get(items.name, items.checksum) != items.checksum
    ]


def publish(folder: Store, found: dict[str, Any], runs: list[ModelRun]) -> None:
    """Writes items, report and table, results.json last."""
    rows = []
    shown = []
    for run in runs:
        label = run.model.label
        for asked, at_benchmark in zip(run.wanted, run.attempts, strict=True):
            items = asked.benchmark
            for number, problem, attempts in zip(
                items.numbers, items.problems, at_benchmark, strict=True
            ):
                rows.append({
                    "benchmark": items.name, "item": number, "problem_id": problem.id,
                    "model": label, "attempts": len(attempts),
                    "correct": sum(a.verdict == "correct" for a in attempts),
                    "verdicts": [str(a.verdict) for a in attempts],
                    "extracted": [a.extracted for a in attempts],
                    "tokens": [a.completion_tokens for a in attempts],
                })  # fmt: skip
                shown += [(label, items.name, number, problem, a) for a in attempts]
    folder.write_table("items.parquet", pa.Table.from_pylist(rows, schema=ITEM))
    folder.write_text("results.md", results_table.markdown(found))
    folder.write_text("report.html", render_evaluation(found, shown))
    folder.write_json("results.json", found)
