"""Which charts the report shows, and from which figures of the manifest."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from limo_ray.core.text import number
from limo_ray.report import charts, facts
from limo_ray.report.example_browser import label, numeric
from limo_ray.sampling.stop_rule import Decision, StopRule

# In the order of Decision; the fourth is for a rule that is not known whole.
DECISIONS = (("keep", "keep"), ("too easy", "easy"), ("too hard", "hard"), ("undecided", "open"))
RATES = [str(percent) for percent in range(0, 101, 10)]  # upper ends; the first bin is 0 alone
SCORE_BINS = 12


def attempts(stages: list[dict[str, Any]]) -> Markup:
    """Attempts of every stage, as a share of its full budget."""
    rows = []
    for stage in stages:
        counts = stage.get("attempts") or {}
        spent = facts.used(stage)
        sampled = min(counts.get("sampled") or 0, spent)
        speculative = min(counts.get("speculative") or 0, sampled)
        full, ratio = counts.get("full_budget") or 0, facts.saving(stage)
        note = number(spent)
        if ratio is not None:
            note += f" of {number(full)} · {ratio:.1f} times fewer"
        rows.append(
            charts.Bar(
                label=_name(stage),
                parts=[
                    ("needed", "c0", sampled - speculative),
                    ("speculative", "c2", speculative),
                    ("from the attempt log", "c1", spent - sampled),
                ],
                total=max(full, spent),
                note=note,
            )
        )
    return charts.bars(
        "Attempts against the full budget",
        rows,
        note="A whole bar is every problem times its budget. What is not coloured was never "
        "sampled, because no outcome could have changed the decision.",
    )


def verdicts(stages: list[dict[str, Any]]) -> Markup:
    """What the verifier said in every stage, judgements first."""
    rows = []
    for stage in stages:
        counts = stage.get("verdicts") or {}
        total = sum(counts.values())
        judged = sum(counts.get(v, 0) for v in facts.JUDGED)
        rows.append(
            charts.Bar(
                label=_name(stage),
                parts=[(v, f"v-{v}", counts.get(v, 0)) for v in facts.JUDGED + facts.UNJUDGED],
                total=total,
                note=f"{judged / total:.0%} of {number(total)} judged" if total else "",
            )
        )
    return charts.bars(
        "Verdicts",
        rows,
        note="Only correct and wrong are judgements. The grey parts say why there is none; they "
        "are not wrong answers. Counted over the stage's attempt log, to which earlier runs may "
        "have added.",
    )


def pass_rates(stage: dict[str, Any]) -> Markup:
    """Problems by correct over finished attempts at the moment of decision."""
    note = (
        "Sampling stops once the decision is certain, so this says what was decided, and does not "
        "estimate the pass rate."
    )
    return charts.histogram(
        f"Pass rate when decided: {_name(stage)}",
        RATES,
        _by_decision(stage, len(RATES), lambda right, ended: math.ceil(10 * right / ended)),
        x_label="correct of finished attempts, up to %",
        note=note if (stage.get("rule") or {}).get("early", True) else "",
    )


def spent(stage: dict[str, Any]) -> Markup:
    """Problems by the number of attempts that their decision took."""
    budget = (stage.get("rule") or {}).get("budget") or 0
    last = max(budget, *(finished for _, finished, _ in stage.get("pass_rate") or [(0, 0, 0)]))
    return charts.histogram(
        f"Attempts per problem: {_name(stage)}",
        [str(i) for i in range(1, last + 1)],
        _by_decision(stage, last, lambda right, ended: ended - 1),
        x_label="attempts finished when decided" + (f" (budget {budget})" if budget else ""),
    )


def lengths(stage: dict[str, Any]) -> Markup:
    """Completions of the stage's log by their tokens."""
    counts = stage.get("lengths") or {}
    edges = [number(round(edge)) for edge in counts.get("edges") or []]
    kinds = (("correct", "correct", "v-correct"), ("other", "all others", "open"))
    return charts.histogram(
        f"Completion length: {_name(stage)}",
        [f"{a} to {b}" for a, b in pairwise(edges)],
        [
            charts.Series(name=n, css=css, values=counts[key])
            for key, n, css in kinds
            if key in counts
        ],
        x_label="tokens",
        y_label="attempts",
        edges=edges,
    )


def scores(manifest: dict[str, Any], examples: list[dict[str, Any]]) -> list[Markup]:
    """The selected examples by total score, and by each criterion.

    Criteria are z-scores over all candidates (limo_ray.curate.quality), so 0 is their mean.
    """
    criteria = (manifest.get("quality") or {}).get("criteria") or []
    weights = {c.get("name"): c.get("weight") for c in criteria}
    out = []
    for key in (k for k in numeric(examples) if k.startswith("score")):
        values = [e[key] for e in examples if isinstance(e.get(key), int | float)]
        values = [v for v in values if math.isfinite(v)]
        if not values:
            continue
        low = min(values)
        width = (max(values) - low) / SCORE_BINS or 1.0
        counts = [0] * SCORE_BINS
        for v in values:
            counts[min(SCORE_BINS - 1, int((v - low) / width))] += 1
        edges = [f"{low + i * width:.2f}" for i in range(SCORE_BINS + 1)]
        weight = weights.get(key.removeprefix("score_"))
        title = "Total score" if key == "score" else label(key)
        out.append(
            charts.histogram(
                title if weight is None else f"{title}, weight {weight:.0%}",
                [f"{a} to {b}" for a, b in pairwise(edges)],
                [charts.Series(name="selected", css="c0", values=counts)],
                x_label="weighted sum" if key == "score" else "z-score over all candidates",
                y_label="examples selected",
                edges=edges,
            )
        )
    return out


def _name(stage: dict[str, Any]) -> str:
    return stage.get("name") or "stage"


def _by_decision(
    stage: dict[str, Any], bins: int, place: Callable[[int, int], int]
) -> list[charts.Series]:
    """The stage's problems in bins by `place(correct, finished)`, one series per decision."""
    values = [[0] * bins for _ in DECISIONS]
    for correct, finished, problems in stage.get("pass_rate") or []:
        if finished:
            made = _decision(correct, finished, stage.get("rule") or {})
            values[made][place(correct, finished)] += problems
    return [
        charts.Series(name=name, css=css, values=v)
        for (name, css), v in zip(DECISIONS, values, strict=True)
        if any(v)
    ]


def _decision(correct: int, finished: int, rule: dict[str, Any]) -> int:
    """The index into DECISIONS of a problem with these counts."""
    known = {f: rule[f] for f in ("budget", "keep_min", "keep_max", "early") if f in rule}
    if not {"budget", "keep_min", "keep_max"} <= known.keys():
        return 3
    made = StopRule(**known).decide(correct, min(finished, known["budget"]))
    return 3 if made is None else list(Decision).index(made)
