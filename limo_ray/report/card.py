"""The dataset card of a curation run: README.md for Hugging Face, with front matter that loads.

    render_card(manifest, ledger_counts, examples)   ->   the card as text

The front matter maps the data set to examples.parquet alone, so that `load_dataset(folder)` does
not take the ledger, the manifest or the JSONL copy for data.
"""

import json
from typing import Any

from limo_ray.report import facts
from limo_ray.report.templates import clean, environment, line

# (upper bound of the number of rows, the hub's name for the class)
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

COLUMNS = {
    "messages": "the chat: roles and contents, ready for training",
    "problem_id": "content hash of the question",
    "teacher": "who wrote the chain",
    "question": "the problem",
    "answer": "its gold answer",
    "source": "the source it comes from",
    "domain": "which verifier judged it",
    "solution": "the chain of thought",
    "tokens": "length of the chain in tokens",
    "gold": "where the gold answer is from: `source`, or `majority` with votes/attempts",
    "pass_rate": "correct/finished attempts of the strong model when the problem was kept",
    "score": "weighted sum of the criteria",
    "score_elaborated": "Elaborated Reasoning",
    "score_verification": "Self-Verification",
    "score_exploratory": "Exploratory Approach",
    "score_granularity": "Adaptive Granularity",
    "score_rating": "a model's rating, where one was asked for",
    "annotations": "what a model replied about the problem, as JSON",
}


def render_card(
    manifest: dict[str, Any],
    ledger_counts: list[dict[str, Any]],
    examples: list[dict[str, Any]],
) -> str:
    """The card as text that encodes as UTF-8. Arguments as in `limo_ray.report.render_report`."""
    config = manifest.get("config") or {}
    licence = config.get("licence") or "other"
    language = config.get("language") or "en"
    size = next((name for bound, name in SIZES if len(examples) < bound), "10M<n<100M")
    # JSON is YAML, so every value is quoted right whatever it holds.
    front = {
        "pretty_name": line(manifest.get("name") or "Curated reasoning examples"),
        "license": licence,
        "language": [language] if isinstance(language, str) else list(language),
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["reasoning", "chain-of-thought", "limo"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "examples.parquet"}],
            }
        ],
    }
    present = {k for e in examples[:1] for k in e}
    card = (
        environment(autoescape=False)
        .get_template("card.md.j2")
        .render(
            m=manifest,
            front="\n".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in front.items()),
            headline=facts.headline(manifest, ledger_counts, len(examples)),
            notes=facts.notes(manifest, ledger_counts),
            columns=[(k, v) for k, v in COLUMNS.items() if k in present],
            stages=manifest.get("sampling") or [],
            steps=facts.funnel(ledger_counts),
            total=sum(row["rows"] for row in ledger_counts),
            kept=sum(row["rows"] for row in ledger_counts if row["outcome"] == "kept"),
            licence=licence,
        )
    )
    while "\n\n\n" in card:
        card = card.replace("\n\n\n", "\n\n")
    return clean(card)
