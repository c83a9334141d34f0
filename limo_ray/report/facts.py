"""The facts that the report and the card both tell: funnel, savings, headline, number formats.

Pure functions over the manifest and the ledger's counts. Any key may be missing, as in the
manifest of a stopped run.
"""

from dataclasses import dataclass, field
from typing import Any

from limo_ray.core.records import Verdict
from limo_ray.core.text import number

# Stages in the order of the pipeline; the ledger's counts come in any order.
STAGES = (
    "sources", "filters", "decontaminate", "dedup", "majority", "difficulty", "weak", "strong",
    "annotate", "chains",
)  # fmt: skip

JUDGED = [str(v) for v in Verdict if v.judged]
UNJUDGED = [str(v) for v in Verdict if not v.judged]


@dataclass(kw_only=True, slots=True)
class DropCount:
    """Why rows left at one stage."""

    reason: str
    rows: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class FunnelStep:
    """One stage of the funnel: `before` rows came, `dropped` left, `left` went on."""

    stage: str
    before: int
    dropped: int
    left: int
    reasons: list[DropCount]


def funnel(ledger_counts: list[dict[str, Any]]) -> list[FunnelStep]:
    """The dropped rows by stage, in pipeline order, each with its reasons, most rows first."""
    stages: dict[str, dict[str, DropCount]] = {}
    for row in ledger_counts:
        if row["outcome"] == "kept":
            continue
        reasons = stages.setdefault(row.get("stage") or "unknown", {})
        name = row.get("reason") or "unknown"
        reason = reasons.setdefault(name, DropCount(reason=name))
        reason.rows += row["rows"]
        source = row.get("source") or "unknown"
        reason.sources[source] = reason.sources.get(source, 0) + row["rows"]
        reason.sample += (row.get("sample") or [])[: 3 - len(reason.sample)]
    steps = []
    left = sum(row["rows"] for row in ledger_counts)
    for stage in sorted(stages, key=lambda s: STAGES.index(s) if s in STAGES else len(STAGES)):
        reasons_here = sorted(stages[stage].values(), key=lambda r: -r.rows)
        dropped = sum(r.rows for r in reasons_here)
        steps.append(
            FunnelStep(
                stage=stage,
                before=left,
                dropped=dropped,
                left=left - dropped,
                reasons=reasons_here,
            )
        )
        left -= dropped
    return steps


def notes(manifest: dict[str, Any], ledger_counts: list[dict[str, Any]]) -> list[str]:
    """What a reader must know first: shortfall, warnings, a ledger that does not add up."""
    found = [manifest.get("shortfall"), *(manifest.get("warnings") or [])]
    told = (manifest.get("counts") or {}).get("input")
    counted = sum(row["rows"] for row in ledger_counts)
    if ledger_counts and told is not None and told != counted:
        found.append(
            f"The ledger does not add up: it holds {number(counted)} rows, "
            f"and {number(told)} rows came in."
        )
    return list(dict.fromkeys(note for note in found if note))


def used(stage: dict[str, Any]) -> int:
    """Attempts that a stage's decided problems took, sampled in this run or before.

    A stopped run does not know `used` yet: what it drew and reused stands for it.
    """
    attempts = stage.get("attempts") or {}
    now = (attempts.get("sampled") or 0) + (attempts.get("reused") or 0)
    return attempts.get("used") or now


def saving(stage: dict[str, Any]) -> float | None:
    """How many times fewer attempts than the full budget a stage used; None where unknown."""
    full, spent = (stage.get("attempts") or {}).get("full_budget"), used(stage)
    return full / spent if full and spent else None


def headline(
    manifest: dict[str, Any], ledger_counts: list[dict[str, Any]], examples: int
) -> list[str]:
    """The result in a few sentences; the first stands alone."""
    counts = manifest.get("counts") or {}
    rows = counts.get("input", sum(row["rows"] for row in ledger_counts))
    pool = counts.get("pool", rows)
    selected = counts.get("selected", examples)
    sentences = [f"{number(selected)} of {number(pool)} problems selected."]
    removed = [
        f"{number(counts[key])} {words}"
        for key, words in (
            ("invalid", "could not be read"),
            ("filtered", "were filtered out"),
            ("contaminated", "came from a benchmark"),
            ("duplicate", "were duplicates"),
            ("near_duplicate", "were near-duplicates"),
            ("conflicting_answers", "contradicted each other"),
            ("answer_unverifiable", "had an answer that cannot be verified"),
        )
        if counts.get(key)
    ]
    if removed:
        several = ", ".join(removed[:-1]) + " and " if removed[1:] else ""
        sentences.append(f"Of {number(rows)} rows, {several}{removed[-1]}.")
    if "kept" in counts:
        text = f"{number(counts['kept'])} turned out hard but solvable"
        if "sampled" in counts:
            text = f"{number(counts['sampled'])} problems were sampled, {text}"
        if "with_chain" in counts:
            text += f", {number(counts['with_chain'])} of these got a verified chain"
        sentences.append(text + ".")
    voted = manifest.get("majority") or {}
    if voted.get("problems"):
        sentences.append(
            f"{number(voted['problems'])} problems came without an answer and have the majority "
            f"of the strong attempts as gold answer, {number(voted['selected'])} of the examples "
            "among them."
        )
    stages = [s for s in manifest.get("sampling") or [] if saving(s)]
    if stages:
        spent = sum(used(s) for s in stages)
        full = sum(s["attempts"]["full_budget"] for s in stages)
        sentences.append(
            f"These took {number(spent)} attempts, {1 - spent / full:.0%} fewer than their full "
            f"budget of {number(full)}."
        )
        if manifest.get("dollars"):
            sentences.append(f"The attempts in the log cost ${manifest['dollars']:,.2f}.")
        if beyond := sum(s["attempts"].get("beyond") or 0 for s in stages):
            sentences.append(f"{number(beyond)} more were under way when the target was reached.")
    return sentences


def flat(tree: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested config as (full key path, value) pairs, in order."""
    if isinstance(tree, dict) and tree:
        return [p for k, v in tree.items() for p in flat(v, f"{path}.{k}" if path else str(k))]
    if isinstance(tree, list) and any(isinstance(v, dict | list) for v in tree):
        return [p for i, v in enumerate(tree) for p in flat(v, f"{path}[{i}]")]
    return [(path, str(tree))]
