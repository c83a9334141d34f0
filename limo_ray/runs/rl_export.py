"""A run's kept problems as the rows that RL trainers read: verl's and TRL's Parquet files.

    limo-ray export store/runs/laptop verl problems.parquet

Both have the gold answer and the pass rate that the strong model had; `limo_ray.verify.rewards` has
the reward functions for them.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.core.prompts import question_messages
from limo_ray.core.records import MESSAGES
from limo_ray.core.uris import redact
from limo_ray.runs.reader import Run, open_run
from limo_ray.storage.store import WRITTEN

FACTS = [
    ("problem_id", pa.string()), ("domain", pa.string()), ("source", pa.string()),
    ("correct", pa.int32()), ("finished", pa.int32()), ("pass_rate", pa.float64()),
]  # fmt: skip
VERL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64()), *FACTS])),
    ]
)
TRL = pa.schema([("prompt", MESSAGES), ("answer", pa.string()), *FACTS])


def verl_table(run: Run) -> pa.Table:
    """Rows (problems,) with verl's columns: data_source, prompt, ability, reward_model, extra_info.

    ability is math, code or the domain's name; ground_truth is the gold answer as the verifier
    takes it for extra_info.domain.
    """
    rows = [
        {
            "data_source": f"limo_ray/{problem['source']}",
            "prompt": prompt,
            "ability": "math" if problem["domain"] == "choice" else problem["domain"],
            "reward_model": {"style": "rule", "ground_truth": problem["answer"]},
            "extra_info": {"split": "train", "index": index, **facts},
        }
        for index, (problem, prompt, facts) in enumerate(_problems(run))
    ]
    return pa.Table.from_pylist(rows, schema=VERL)


def trl_table(run: Run) -> pa.Table:
    """Rows (problems,) with TRL's prompt (a chat) and answer, and facts as further columns."""
    rows = [
        {"prompt": prompt, "answer": problem["answer"], **facts}
        for problem, prompt, facts in _problems(run)
    ]
    return pa.Table.from_pylist(rows, schema=TRL)


def _problems(run: Run) -> list[tuple[dict[str, Any], list[dict[str, str]], dict[str, Any]]]:
    """Problem, chat that asks it, facts."""
    system = run.manifest["config"]["system"]
    found = []
    for row in run.table("problems").to_pylist():
        facts = {name: row[name] for name in ("domain", "source", "correct", "finished")}
        facts["problem_id"] = row["id"]
        facts["pass_rate"] = row["correct"] / row["finished"] if row["finished"] else None
        found.append((row, question_messages(row["question"], system), facts))
    return found


TABLES = {"verl": verl_table, "trl": trl_table}


def main(argv: list[str]) -> int:
    """Writes a run's problems for a trainer; returns the exit code."""
    if len(argv) != 3 or argv[1] not in TABLES:
        sys.stderr.write("usage: limo-ray export <store>/runs/<name> verl|trl <file.parquet>\n")
        return 2
    try:
        table = TABLES[argv[1]](open_run(argv[0]))
        Path(argv[2]).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, argv[2], **WRITTEN)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"failed: {redact(str(error))}\n")
        return 1
    sys.stdout.write(f"{table.num_rows:,} problems: {argv[2]}\n")
    return 0
