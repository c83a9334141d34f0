"""A small finished curation made by hand: two kept problems, one dropped, two logs."""

import json
from pathlib import Path

import pyarrow as pa

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.records import LEDGER, SAMPLED, Attempt, Verdict
from limo_ray.curate.outputs import EXAMPLES
from limo_ray.storage.store import Store

KEPT, UNUSED, EASY, FOREIGN = ("kept1", "kept2", "easy", "of another run")
FILES = '[{"split": "train", "path": "examples.parquet"}]'
CARD = f"""---
license: "mit"
configs: [{{"config_name": "default", "data_files": {FILES}}}]
---
# small
"""
FINGERPRINTS = {"weak": "aaaaaaaaaaaaaaaa", "strong": "bbbbbbbbbbbbbbbb"}


def make(folder: Path) -> str:
    """Writes it below a folder; returns the run's path."""
    store = Store(str(folder))
    run = store.within("runs/small")
    origin = {"source": "sums", "file": "sums.jsonl", "line": 1}
    ledger = [
        origin | {"problem_id": KEPT, "outcome": "kept", "stage": "selection"},
        origin | {"problem_id": UNUSED, "outcome": "dropped", "stage": "chains"},
        origin | {"problem_id": EASY, "outcome": "dropped", "stage": "weak"},
    ]
    run.write_table("ledger/part-0.parquet", pa.Table.from_pylist(ledger, schema=LEDGER))
    decided = [
        origin | {
            "id": id_, "question": f"What is {id_}?", "answer": "12", "domain": "math",
            "metadata": "{}", "order": 1, "alive": id_ != EASY,
            "outcomes": json.dumps([
                {"stage": "weak", "correct": 0, "finished": 1},
                {"stage": "strong", "correct": 1, "finished": 4},
            ]),
        }
        for id_ in (KEPT, UNUSED, EASY)
    ]  # fmt: skip
    run.write_table("decided/part-0.parquet", pa.Table.from_pylist(decided, schema=SAMPLED))
    for fingerprint in FINGERPRINTS.values():
        writer = LogWriter(AttemptLog(store, fingerprint))
        for id_ in (KEPT, EASY, FOREIGN):
            for index in range(3):
                writer.append(_attempt(id_, index))
        writer.flush()
    example = {"messages": [{"role": "user", "content": "What is kept1?"}], "problem_id": KEPT}
    example |= {"question": "What is kept1?", "answer": "12", "pass_rate": "1/4", "score": 1.0}
    run.write_table("examples.parquet", pa.Table.from_pylist([example], schema=EXAMPLES))
    run.write_text("README.md", CARD)
    run.write_text("report.html", "<p>small</p>")
    run.write_json(
        "manifest.json",
        {"name": "small", "fingerprints": FINGERPRINTS, "config": {"system": "Think."}},
    )
    return str(folder / "runs/small")


def _attempt(problem_id: str, index: int) -> Attempt:
    return Attempt(
        problem_id=problem_id, index=index, completion=r"\boxed{12}", finish_reason="stop",
        prompt_tokens=5, completion_tokens=7, verdict=Verdict.CORRECT, extracted="12", judge="j",
    )  # fmt: skip
