"""What a study leaves behind: a row per cell, what the named comparisons show, curves, a report."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from limo_ray.evaluate.compare import holm
from limo_ray.report.study import render_study
from limo_ray.storage.store import Store
from limo_ray.study.cells import Arm, Comparison, varying
from limo_ray.study.config import StudyConfig, show
from limo_ray.study.runner import Cell
from limo_ray.study.sentences import markdown, of_comparison, of_curve
from limo_ray.study.statistics import Scores, contrast, fit_curve, score

Row = dict[str, Any]

ROWS = pa.schema(
    [
        *((name, pa.string()) for name in ("study", "cell", "arm", "settings")),
        ("seed", pa.int32()), ("benchmark", pa.string()), ("metric", pa.string()),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        *((name, pa.int64()) for name in ("items", "examples", "steps", "learned_tokens")),
        *((name, pa.float64()) for name in ("train_s", "evaluate_s")),
    ]
)  # fmt: skip
FLIPS = 12  # items shown of a comparison
SHOWN = 3  # examples shown of an arm


def publish(
    folder: Store, store: Store, config: StudyConfig, cells: list[Cell],
    comparisons: list[Comparison], facts: Row,
) -> Row:  # fmt: skip
    """Writes results.parquet, results.md, report.html, and results.json last."""
    done = [(cell, known) for cell in cells
            if (known := store.read_json(f"cells/{cell.key}/cell.json")) is not None]  # fmt: skip
    rows = [row for cell, known in done for row in _rows(config.name, cell, known)]
    folder.write_table("results.parquet", pa.Table.from_pylist(rows, schema=ROWS))
    results = facts | results_of(config, done, comparisons, store)
    folder.write_text("results.md", markdown(results))
    folder.write_text("report.html", render_study(results))
    folder.write_json("results.json", results)
    return results


def results_of(
    config: StudyConfig, done: list[tuple[Cell, Row]], comparisons: list[Comparison], store: Store
) -> Row:
    """Scores of arms, comparisons, curves and what they say, as plain values."""
    scores = arm_scores(done, store)
    arms = list({cell.arm.key: cell.arm for cell, _ in done}.values())
    benchmarks = list(dict.fromkeys(name for _, name in scores))
    found: Row = {
        "benchmarks": benchmarks,
        "arms": [_arm(arm, [(c, k) for c, k in done if c.arm.key == arm.key], _line(arm, arms))
                 for arm in arms],
        "scores": {name: [{"arm": arm.label, **asdict(score(scores[arm.key, name]))}
                          for arm in arms] for name in benchmarks},
        "comparisons": compared(comparisons, scores, benchmarks),
        "curves": {name: _curves(arms, scores, name) for name in benchmarks},
        "heat": {name: _heat(arms, scores, name) for name in benchmarks},
        "budget": config.budget, "cells": [_cell(cell, known) for cell, known in done],
        "against": _others(config, store),
    }  # fmt: skip
    found["sentences"] = [one["sentence"] for one in found["comparisons"]] + [
        of_curve(line, name) for name in benchmarks for line in found["curves"][name]
    ]
    for name in benchmarks:
        for cell in found["cells"]:
            value = cell["scores"].get(name)
            base = next((s["value"] for s, arm in zip(found["scores"][name], arms, strict=True)
                         if not arm.trained), None)  # fmt: skip
            gained = None if base is None or value is None else 100 * (value - base)
            cell.setdefault("gained", {})[name] = gained
    return found


def arm_scores(done: list[tuple[Cell, Row]], store: Store) -> dict[tuple[str, str], Scores]:
    """(seeds, items) of each arm on each benchmark, by the arm's key and the benchmark."""
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    trained = {}
    for cell, _ in done:
        table = store.read_table(f"cells/{cell.key}/items.parquet")
        trained[cell.arm.key] = cell.arm.trained
        names = table["benchmark"].to_numpy(zero_copy_only=False)
        columns = [table[name].to_numpy() for name in ("item", "correct", "attempts")]
        for name in dict.fromkeys(names.tolist()):
            items, correct, attempts = (column[names == name] for column in columns)
            order = np.argsort(items)
            found.setdefault((cell.arm.key, name), []).append((correct[order], attempts[order]))
    return {
        key: Scores(correct=np.array([a for a, _ in several]),
                    counts=np.array([b for _, b in several]), trained=trained[key[0]])
        for key, several in found.items()
    }  # fmt: skip


def _rows(study: str, cell: Cell, known: Row) -> list[Row]:
    training = known.get("training") or {}
    same = {"study": study, "cell": cell.key, "arm": cell.arm.label, "seed": cell.seed,
            "settings": str(cell.arm.settings), "examples": training.get("examples"),
            "steps": training.get("steps"), "learned_tokens": training.get("learned_tokens"),
            "train_s": known["train_s"], "evaluate_s": known["evaluate_s"]}  # fmt: skip
    found = []
    for benchmark, scores in known["scores"].items():
        metrics = {"pass@1": scores["pass@1"]}
        for kind in ("pass@k", "majority@k"):
            metrics |= {kind[:-1] + str(k): one for k, one in (scores.get(kind) or {}).items()}
        for metric, one in metrics.items():
            found.append(same | {"benchmark": benchmark, "metric": metric, "value": one["value"],
                                 "low": one["low"], "high": one["high"],
                                 "items": one["items"]})  # fmt: skip
    return found


def _cell(cell: Cell, known: Row) -> Row:
    training = known.get("training") or {}
    return {
        "key": cell.key, "arm": cell.arm.label, "seed": cell.seed, "trained": cell.arm.trained,
        "examples": training.get("examples"), "steps": training.get("steps"),
        "learned_tokens": training.get("learned_tokens"), "loss": training.get("loss"),
        "train_s": known["train_s"], "evaluate_s": known["evaluate_s"],
        "scores": {name: one["pass@1"]["value"] for name, one in known["scores"].items()},
    }  # fmt: skip


def _line(arm: Arm, arms: list[Arm]) -> str:
    """What an arm has in common with those of other sizes: the name of their curve."""
    differ = [key for key in varying(arms) if key != "examples"]
    return show({k: v for k, v in arm.settings.items() if k in differ})


def _arm(arm: Arm, cells: list[tuple[Cell, Row]], line: str) -> Row:
    data = cells[0][0].data
    examples = [] if data is None else data.slice(0, SHOWN).to_pylist()
    return {
        "label": arm.label, "line": line, "settings": arm.settings, "trained": arm.trained,
        "seeds": [cell.seed for cell, _ in cells],
        "tokens": None if data is None else float(np.mean(data["tokens"].to_numpy())),
        "examples": [{name: row[name] for name in ("question", "solution", "teacher", "pass_rate",
                                                   "tokens")} for row in examples],
    }  # fmt: skip


def compared(
    comparisons: list[Comparison], scores: dict[tuple[str, str], Scores], benchmarks: list[str]
) -> list[Row]:
    """The named comparisons on each benchmark, with Holm's correction over all of them."""
    found: list[Row] = []
    for asked in comparisons:
        for name in benchmarks:
            if asked.benchmark not in ("", name):
                continue
            weights = asked.weights()
            if any((arm.key, name) not in scores for _, arm in weights):
                found.append({"name": asked.name, "benchmark": name, "missing": True})
                continue
            estimate = contrast([(weight, scores[arm.key, name]) for weight, arm in weights])
            seeds = [scores[arm.key, name].seeds for _, arm in weights if arm.trained]
            found.append({"name": asked.name, "benchmark": name, "missing": False,
                          "pairs": len(asked.pairs), "fewest_seeds": min(seeds),
                          "flips": _flips(asked, scores, name), **asdict(estimate)})  # fmt: skip
    whole = [one for one in found if not one["missing"]]
    for one, p in zip(whole, holm([one["p"] for one in whole]), strict=True):
        one["p_adjusted"] = p
        one["clear"] = p <= 0.05 and not one["low"] <= 0 <= one["high"]
    for one in found:
        one["sentence"] = of_comparison(one, len(whole))
    return found


def _flips(asked: Comparison, scores: dict[tuple[str, str], Scores], name: str) -> list[Row]:
    """Items that one side solves most more often than the other, the largest difference first."""
    sides = [np.mean([scores[arm.key, name].rates.mean(axis=0) for arm in arms], axis=0)
             for arms in zip(*asked.pairs, strict=True)]  # fmt: skip
    a, b = sides
    order = np.argsort(-np.abs(a - b), kind="stable")[:FLIPS]
    return [{"item": int(i) + 1, "a": float(a[i]), "b": float(b[i])}
            for i in order if a[i] != b[i]]  # fmt: skip


def _curves(arms: list[Arm], scores: dict[tuple[str, str], Scores], name: str) -> list[Row]:
    """Score against examples: a line for each setting of everything else."""
    lines: dict[str, list[Arm]] = {}
    for arm in arms:
        if arm.trained:
            lines.setdefault(_line(arm, arms), []).append(arm)
    found = []
    for label, several in lines.items():
        several.sort(key=lambda arm: int(arm.settings["examples"]))
        sizes = [arm.settings["examples"] for arm in several]
        if len(set(sizes)) < 2 or len(set(sizes)) < len(sizes):
            continue
        here = [scores[arm.key, name] for arm in several]
        curve = fit_curve(sizes, here)
        gain = contrast([(1.0, here[-1]), (-1.0, here[0])])
        points = [(size, (s := score(one)).value, s.low, s.high)
                  for size, one in zip(sizes, here, strict=True)]  # fmt: skip
        found.append({"line": label, "points": points, "gain": asdict(gain),
                      "curve": asdict(curve) if curve else None})  # fmt: skip
    return found


def _heat(arms: list[Arm], scores: dict[tuple[str, str], Scores], name: str) -> Row | None:
    """Mean scores over the two axes with the most values, where there are two."""
    trained = [arm for arm in arms if arm.trained]
    values = {key: list(dict.fromkeys(arm.settings.get(key) for arm in trained))
              for key in varying(arms)}  # fmt: skip
    if len(values) < 2:
        return None
    across, down = sorted(values, key=lambda key: -len(values[key]))[:2]
    cells: list[list[float | None]] = []
    for row in values[down]:
        cells.append([])
        for column in values[across]:
            here = [
                float(scores[arm.key, name].rates.mean())
                for arm in trained
                if arm.settings.get(across) == column and arm.settings.get(down) == row
            ]
            cells[-1].append(float(np.mean(here)) if here else None)  # fmt: skip
    named = [[f"{v:,}" if isinstance(v, int) else show({key: v}) if v is not None else "any"
              for v in values[key]] for key in (across, down)]  # fmt: skip
    return {"across": across, "down": down, "columns": named[0], "rows": named[1], "cells": cells}


def _others(config: StudyConfig, store: Store) -> list[Row]:
    """Curves of other studies.

    Raises ValueError for one that has no results.
    """
    found = []
    for name in config.against:
        results = store.read_json(f"studies/{name}/results.json")
        if results is None:
            raise ValueError(
                f"against: {name!r} has no results in {store.shown}/studies: run it first"
            )
        found.append({"name": name, "curves": results["curves"], "scores": results["scores"]})
    return found
