"""From verdicts to results: scores of every model on every benchmark, and their differences. Pure.

scores(attempts, problems, by, ks, max_tokens)      one model on one benchmark
versus(attempts of a, attempts of b, numbers)       two models on one benchmark
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from limo_ray.core.records import Attempt, Problem, Verdict
from limo_ray.evaluate import metrics
from limo_ray.evaluate.compare import compare, holm

UNJUDGED = [verdict for verdict in Verdict if not verdict.judged]
NOISE = 0.05  # half an interval: a score that is known no better gets a warning
MANY = 30  # flipped items that results name
LEVELS = 40  # values of a column by which scores are broken down, at the most


def score_facts(score: metrics.Score) -> dict[str, Any]:
    return {key: value for key, value in asdict(score).items() if value is not None}


def scores(
    attempts: Sequence[Sequence[Attempt]], problems: Sequence[Problem], by: Sequence[str],
    ks: Sequence[int], max_tokens: int,
) -> dict[str, Any]:  # fmt: skip
    """One model's scores on one benchmark.

    Args:
        attempts: for each item its n attempts.
        problems: the items.
        by: names in their metadata, for the breakdown.
        ks: of pass@k and majority@k.
        max_tokens: the longest completion.
    """
    solved = [[a.verdict is Verdict.CORRECT for a in item] for item in attempts]
    correct = np.array([sum(item) for item in solved])
    counts = np.array([len(item) for item in solved])
    every = [a for item in attempts for a in item]
    tokens = np.array([a.completion_tokens for a in every])
    verdicts = {verdict: sum(a.verdict is verdict for a in every) for verdict in Verdict}
    judged = verdicts[Verdict.CORRECT] + verdicts[Verdict.WRONG]
    votes = [[_vote(a) for a in item] for item in attempts]
    return {
        "pass@1": score_facts(metrics.pass_at_1(correct, counts)),
        "runs": [round(value, 6) for value in metrics.runs(solved)],
        "pass@k": {k: score_facts(metrics.pass_at_k(correct, counts, k)) for k in ks},
        "majority@k": {k: score_facts(metrics.majority_at_k(votes, k)) for k in ks},
        "attempts": len(every),
        "verdicts": {str(verdict): count for verdict, count in verdicts.items()},
        "shares": {str(verdict): count / len(every) for verdict, count in verdicts.items()},
        "right_of_judged": verdicts[Verdict.CORRECT] / judged if judged else None,
        "at_limit": sum(a.finish_reason == "length" for a in every) / len(every),
        "tokens": {
            "mean": float(tokens.mean()),
            "median": float(np.median(tokens)),
            "p90": float(np.quantile(tokens, 0.9)),
            "max": int(tokens.max()),
            "total": int(tokens.sum()),
        },
        "by_budget": metrics.by_budget(
            [right for item in solved for right in item], tokens.tolist(), max_tokens
        ),
        "by": {name: found for name in by if (found := _by(name, correct, counts, problems))},
    }


def _vote(attempt: Attempt) -> str | None:
    if attempt.verdict is Verdict.CORRECT:
        return metrics.RIGHT
    if attempt.verdict is Verdict.WRONG and attempt.extracted is not None:
        return metrics.normal(attempt.extracted)
    return None


def _by(
    name: str, correct: np.ndarray, counts: np.ndarray, problems: Sequence[Problem]
) -> dict[str, Any]:
    """pass@1 for each value of one column, in the order of the values; empty for one value."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        value = json.loads(problem.metadata).get(name)
        groups["" if value is None else str(value)].append(index)
    if not 2 <= len(groups) <= LEVELS:
        return {}
    return {
        value: score_facts(metrics.pass_at_1(correct[group], counts[group]))
        for value, group in sorted(groups.items(), key=lambda item: _order(item[0]))
    }


def _order(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def versus(
    a: Sequence[Sequence[Attempt]], b: Sequence[Sequence[Attempt]], numbers: Sequence[int]
) -> dict[str, Any]:
    """a minus b on the same items, naming items by their numbers."""

    def counts(items: Sequence[Sequence[Attempt]]) -> tuple[list[int], list[int]]:
        right = [sum(x.verdict is Verdict.CORRECT for x in item) for item in items]
        return right, [len(item) for item in items]

    (right_a, counts_a), (right_b, counts_b) = counts(a), counts(b)
    found = compare(right_a, counts_a, right_b, counts_b)

    def flipped(index: int) -> dict[str, Any]:
        return {
            "item": numbers[index],
            "a": f"{right_a[index]}/{counts_a[index]}",
            "b": f"{right_b[index]}/{counts_b[index]}",
        }

    same = [
        sorted(x.verdict for x in item_a) == sorted(y.verdict for y in item_b)
        for item_a, item_b in zip(a, b, strict=True)
    ]
    return {
        "items": found.items, "difference": found.difference, "low": found.low,
        "high": found.high, "p": found.p, "inside_noise": found.inside_noise,
        "detectable": found.detectable, "gained": len(found.gained), "lost": len(found.lost),
        "gained_items": [flipped(index) for index in found.gained[:MANY]],
        "lost_items": [flipped(index) for index in found.lost[:MANY]],
        "same_verdicts": sum(same) / len(same),
    }  # fmt: skip


def mean_over_benchmarks(scores: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The mean over benchmarks, each weighing the same, as papers report it; None for one.

    Benchmarks are different problems, so their standard errors add up as independent ones.
    """
    if len(scores) < 2:
        return None
    errors = [(score["high"] - score["low"]) / 2 / metrics.Z for score in scores]
    mean = sum(score["value"] for score in scores) / len(scores)
    half = metrics.Z * float(np.sqrt(sum(e * e for e in errors))) / len(scores)
    return {"value": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half),
            "benchmarks": len(scores)}  # fmt: skip


def adjust(comparisons: list[dict[str, Any]]) -> None:
    """Adds `p_adjusted` (Holm) over all comparisons of one evaluation; the guard goes by it."""
    for found, p in zip(comparisons, holm([c["p"] for c in comparisons]), strict=True):
        found["p_adjusted"] = p
        found["inside_noise"] = found["low"] <= 0 <= found["high"] or p > 0.05


def notes(results: dict[str, Any]) -> list[str]:
    """The guard: what a reader must not read out of these numbers."""
    found = []
    for benchmark in results["benchmarks"]:
        scores = [run["scores"][benchmark["name"]]["pass@1"] for run in results["runs"]]
        half = max((score["high"] - score["low"]) / 2 for score in scores)
        if half > NOISE:
            found.append(
                f"{benchmark['name']}: {benchmark['items']} items tell a score only to about "
                f"{_points(half)} points either way; a smaller difference between two models "
                "means something only if it is paired by item"
            )
    for run in results["runs"]:
        for name, score in run["scores"].items():
            cut = score["at_limit"]
            if cut > 0.1:
                found.append(
                    f"{run['label']} on {name}: {cut:.0%} of the attempts ran into the token "
                    "limit; a larger one may give another score"
                )
    for pair in results["comparisons"]:
        if pair["inside_noise"]:
            found.append(
                f"{pair['a']} against {pair['b']} on {pair['benchmark']}: the difference of "
                f"{pair['difference'] * 100:+.1f} points is inside the noise "
                f"({pair['low'] * 100:+.1f} to {pair['high'] * 100:+.1f}, "
                f"p = {pair['p_adjusted']:.2g}); these items find "
                f"differences from about {_points(pair['detectable'])} points on"
            )
    for name, matched in ((results.get("contamination") or {}).get("benchmarks") or {}).items():
        if matched["items"]:
            found.append(
                f"{name}: {len(matched['items'])} items match examples that "
                f"{results['runs'][0]['label']} was trained on; its score on them is worth nothing"
            )
    return found


def _points(share: float) -> str:
    return f"{share * 100:.0f}" if share >= 0.1 else f"{share * 100:.1f}"
