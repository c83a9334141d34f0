"""The report of a curation run: one self-contained HTML file that opens offline.

    render_report(manifest, ledger_counts, examples, problems)   ->   the page as text

No network (its own Content-Security-Policy forbids it), light and dark, printable. Everything that
came from outside is escaped. Any key of the manifest may be missing: the page shows what there is.
"""

import json
from typing import Any

from limo_ray.report import facts, plots
from limo_ray.report.example_browser import browser
from limo_ray.report.latex_html import render, render_answer
from limo_ray.report.templates import environment, page

# What the reasons of the ledger mean, by stage where they differ; others stand for themselves.
REASONS = {
    "invalid": "the row could not be read or mapped",
    "duplicate": "the same question is already in the pool",
    "conflicting_answers": "the same question came with different answers",
    "answer_unverifiable": "the verifier does not accept the gold answer against itself",
    "drop_easy": "solved too often",
    "drop_hard": "solved too rarely",
    "too_few_attempts": "its published attempts do not decide it",
    "no_majority": "it came without an answer, and too few attempts agree on one",
    "suspicious_gold": "no attempt gives the gold answer, and at least half agree on another one",
    "not_sampled": "enough problems were kept before its turn came",
    "no_verified_chain": "no chain passed the gate",
    "selection/not_selected": "other chains were selected",
    "sources/not_selected": "a condition of its source does not hold",
}


def render_report(
    manifest: dict[str, Any],
    ledger_counts: list[dict[str, Any]],
    examples: list[dict[str, Any]],
    problems: dict[str, dict[str, Any]],
) -> str:
    """The page as text that encodes as UTF-8.

    `ledger_counts` has one row per (source, outcome, stage, reason) with `rows` and up to three
    `sample` rows; `examples` are rows of examples.parquet, best first; `problems` holds what is
    known of kept problems that were not selected, by problem id; `outcomes` there is JSON.
    """
    env = environment(autoescape=True)
    return page(
        "report.html.j2",
        (manifest.get("versions") or {}).get("limo_ray"),
        m=manifest,
        headline=facts.headline(manifest, ledger_counts, len(examples)),
        notes=facts.notes(manifest, ledger_counts),
        steps=facts.funnel(ledger_counts),
        total=sum(row["rows"] for row in ledger_counts),
        kept=sum(row["rows"] for row in ledger_counts if row["outcome"] == "kept"),
        sources=_sources(ledger_counts),
        reasons=REASONS,
        stages=manifest.get("sampling") or [],
        plots=plots,
        score_plots=plots.scores(manifest, examples),
        config=facts.flat(manifest.get("config") or {}),
        browser=browser(examples, env) if examples else None,
        examples=len(examples),
        problems=[
            {
                **info,
                "id": key,
                "question": render(str(info.get("question") or "")[:1000]),
                "answer": render_answer(str(info.get("answer") or "")[:200]),
                "outcomes": json.loads(info.get("outcomes") or "[]"),
            }
            for key, info in list(problems.items())[:200]
        ],
        problems_total=len(problems),
    )


def _sources(ledger_counts: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """(source, rows, kept) for every source, most rows first."""
    sums: dict[str, list[int]] = {}
    for row in ledger_counts:
        entry = sums.setdefault(row.get("source") or "unknown", [0, 0])
        entry[0] += row["rows"]
        entry[1] += row["rows"] if row["outcome"] == "kept" else 0
    return sorted(((s, a, b) for s, (a, b) in sums.items()), key=lambda r: (-r[1], r[0]))
