"""The chosen set of a run as a textbook.

    python jobs/textbook.py <store>/runs/<name> [--by KEY] [--pdf] [--out FOLDER]

Writes textbook.html to the run's folder, or to FOLDER. Chapters are subjects: the value of KEY in
the problems' metadata; without KEY the first of subject, type, category, topic and kind that is
there; else the source. With --pdf a browser (Chromium or Chrome) prints it to textbook.pdf.
Exit codes: 0 done, 1 failed, 2 wrong command.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from limo_ray.core.console import say
from limo_ray.core.records import strong_counts
from limo_ray.core.uris import redact
from limo_ray.report.textbook import BookProblem, render_textbook
from limo_ray.storage.store import Store, scan

SUBJECTS = ("subject", "type", "category", "topic", "kind")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLUMNS = ["id", "question", "source", "file", "line", "metadata", "outcomes", "alive"]


def main(argv: list[str]) -> int:
    """Writes the textbook that the arguments ask for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="textbook", description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", help="folder of a curation: <store>/runs/<name>")
    parser.add_argument("--by", default="", metavar="KEY", help="metadata key of the chapters")
    parser.add_argument("--out", default="", metavar="FOLDER", help="default: the run's folder")
    parser.add_argument("--pdf", action="store_true", help="also print it to textbook.pdf")
    asked = parser.parse_args(argv)
    try:
        run = Store(asked.run.rstrip("/"))
        out = Store(asked.out) if asked.out else run
        page = textbook(run, asked.by)
        out.write_text("textbook.html", page)
        say(f"textbook  {out.shown}/textbook.html")
        if asked.pdf:
            out.write_bytes("textbook.pdf", _printed(page))
            say(f"textbook  {out.shown}/textbook.pdf")
    except (OSError, ValueError) as error:
        say(f"failed: {redact(str(error))}")
        return 1
    return 0


def textbook(run: Store, by: str = "") -> str:
    """The page for a finished curation.

    Raises:
        ValueError: the folder is no finished curation, or no problem has the metadata key `by`.
    """
    if not run.exists("examples.parquet"):
        raise ValueError(f"{run.shown}: no finished curation (it has no examples.parquet)")
    examples = run.read_table("examples.parquet").to_pylist()
    chosen = {example["problem_id"] for example in examples}
    kept: dict[str, dict[str, Any]] = {}
    for batch in scan(run.within("decided"), COLUMNS):
        kept |= {row["id"]: row for row in batch.filter(batch["alive"]).to_pylist()}
    if by and not any(by in _metadata(row) for row in kept.values()):
        raise ValueError(f"--by {by}: no problem of {run.shown} has this in its metadata")
    problems = [
        _book_problem(
            kept.get(example["problem_id"], example), by,
            answer=example["answer"], solution=example["solution"], teacher=example["teacher"],
        )
        for example in examples
    ]  # fmt: skip
    exercises = [_book_problem(row, by) for key, row in kept.items() if key not in chosen]
    name = run.shown.rstrip("/").rpartition("/")[2]
    return render_textbook(f"{name}: a textbook", problems, exercises)


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(row.get("metadata") or "{}")
    return found if isinstance(found, dict) else {}


def _book_problem(
    row: dict[str, Any], by: str, answer: str = "", solution: str = "", teacher: str = ""
) -> BookProblem:
    metadata = _metadata(row)
    named = (str(metadata[key]) for key in ([by] if by else SUBJECTS) if metadata.get(key))
    strong = strong_counts(row.get("outcomes") or "[]")
    line = f", line {row['line']}" if row.get("line") is not None else ""
    return BookProblem(
        question=row["question"],
        answer=answer,
        subject=next(named, row["source"]).replace("_", " "),
        pass_rate=strong[0] / strong[1] if strong else 0.0,
        origin=f"from {row.get('file') or row['source']}{line}",
        solution=solution,
        teacher=teacher,
    )


def _printed(page: str) -> bytes:
    """The page as PDF, printed by a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ValueError("--pdf: no Chromium or Chrome here; open the page and print it")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(page, encoding="utf-8")
        subprocess.run(
            [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer",
             *(["--no-sandbox"] if os.geteuid() == 0 else []),  # refuses to run as root with one
             f"--print-to-pdf={folder}/page.pdf", f"file://{folder}/page.html"],
            check=False, capture_output=True, timeout=300,
        )  # fmt: skip
        pdf = Path(folder) / "page.pdf"
        if not pdf.exists():
            raise ValueError(f"--pdf: {browser} did not print the page")
        return pdf.read_bytes()
