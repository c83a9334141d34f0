"""The funnel of a curation for the terminal: which rows were dropped, why, and what to try.

Pure. The counts are those of the ledger: dicts with outcome, stage, reason, source and rows.
"""

from typing import Any

from limo_ray.report import facts

SHOWN = 3  # reasons with advice

# What to try against a drop reason of the ledger when too little is left.
ADVICE = {
    "invalid": "the ledger names file, line and field of each: mend the mapping or the file",
    "not_selected": "loosen the conditions of the source (sources[].where)",
    "language": "name the pool's languages, or allow all: filters.language=[]",
    "length": "set filters.min_chars and filters.max_chars to the length of your questions",
    "image": "questions that show an image cannot be answered from text; filters.images=false keeps"
    " them",
    "link": "filters.links=false keeps questions with a link",
    "too_long": "raise max_model_len of the engines, or lower max_tokens of the samplings",
    "answer_unusable": "look at the answer column: it holds words for no answer, or long texts "
    "(filters.max_answer_chars); for answers inside a solution set answer_from",
    "yes_no": "filters.yes_no=false keeps questions that are answered yes or no",
    "multiple_choice": "filters.multiple_choice=convert makes choice problems of them",
    "several_parts": "filters.several_parts=false keeps questions with several parts",
    "proof": "filters.proofs=false keeps them, but no verifier checks a proof",
    "answer_unverifiable": "look at these answers in the ledger: answer_from may take the answer "
    "out of its text; gold_check=false keeps them unchecked",
    "contaminated": "these are benchmark questions: take the benchmark out of decontaminate only "
    "if no model is compared on it",
    "conflicting_answers": "the same question has several answers: mend the source",
    "near_duplicate": "raise near.threshold, or set near.numbers=differ",
    "template": "raise near.per_template",
    "not_sampled": "raise difficulty.stop_after_kept",
    "drop_easy": "take harder problems or weaker models, or raise keep_max",
    "drop_hard": "take easier problems or a stronger model, raise budget or max_tokens, or check "
    "that answers are found at all (verdicts in the report)",
    "too_few_attempts": "the published data set has too few attempts at them: lower "
    "rule.budget, or name another data set",
    "no_majority": "lower difficulty.majority.share or count, or raise the strong rule's budget",
    "suspicious_gold": "look at their gold answers; difficulty.suspicious=list keeps them",
    "no_verified_chain": "more attempts or another model in chains.teachers",
}


def lines(ledger_counts: list[dict[str, Any]]) -> list[str]:
    """One line for each stage that dropped rows, with its reasons, most rows first."""
    total = sum(row["rows"] for row in ledger_counts)
    steps = [("rows read", f"{total:,}", "")]
    for step in facts.funnel(ledger_counts):
        reasons = ", ".join(f"{each.rows:,} {each.reason}" for each in step.reasons)
        steps.append((step.stage, f"-{step.dropped:,}", reasons))
    kept = sum(row["rows"] for row in ledger_counts if row["outcome"] == "kept")
    steps.append(("left", f"{kept:,}", ""))
    width = max(len(rows) for _, rows, _ in steps)
    return [f"  {name:<14}{rows:>{width}}  {why}".rstrip() for name, rows, why in steps]


def advice(ledger_counts: list[dict[str, Any]]) -> list[str]:
    """What to try against the reasons that dropped most rows, most first; may be empty."""
    reasons: dict[str, int] = {}
    for row in ledger_counts:
        if row["outcome"] != "kept" and row["reason"] in ADVICE:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["rows"]
    most = sorted(reasons, key=lambda reason: -reasons[reason])[:SHOWN]
    return [f"  {reason} ({reasons[reason]:,} rows): {ADVICE[reason]}" for reason in most]
