"""The command: a run's folder in, a page out; what is missing is said."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from limo_ray.cli import textbook
from limo_ray.storage.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """A finished curation: one example, and one kept problem that was not selected."""
    store = Store(str(tmp_path / "runs/mine"))
    decided = [
        {
            "id": key, "question": f"Question {key}?", "source": "pool", "file": "pool.jsonl",
            "line": 3, "metadata": json.dumps({"subject": "number_theory", "level": "5"}),
            "outcomes": json.dumps([{"stage": "strong", "correct": 1, "finished": 4}]),
            "alive": key != "dropped",
        }
        for key in ("chosen", "kept", "dropped")
    ]  # fmt: skip
    example = {
        "problem_id": "chosen", "question": "Question chosen?", "answer": "7", "source": "pool",
        "solution": "Add the digits one by one.", "teacher": "R1",
    }  # fmt: skip
    store.write_table("decided/part-0.parquet", pa.Table.from_pylist(decided))
    store.write_table("examples.parquet", pa.Table.from_pylist([example]))
    return store


def test_a_run_becomes_a_page(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert textbook.main([run.shown]) == 0
    assert "textbook.html" in capsys.readouterr().out
    page = run.read_text("textbook.html") or ""
    assert "1. number theory" in page and "from pool.jsonl, line 3" in page
    assert "25 % of attempts" in page and "solution by R1" in page
    assert "Question kept?" in page.partition("Exercises")[2]
    assert "Question dropped?" not in page


def test_chapters_by_a_key_of_the_metadata(run: Store, tmp_path: Path) -> None:
    assert textbook.main([run.shown, "--by", "level", "--out", str(tmp_path / "out")]) == 0
    assert '<h2 id="c1">1. 5</h2>' in (tmp_path / "out/textbook.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "colour"], "--by colour: no problem of"),
        (["elsewhere"], "no finished curation (it has no examples.parquet)"),
    ],
)
def test_what_is_missing_is_said(
    arguments: list[str], said: str, run: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [run.shown, *arguments] if arguments[0] == "--by" else [f"{run.shown}/elsewhere"]
    assert textbook.main(argv) == 1
    assert said in capsys.readouterr().out


def test_without_a_browser_there_is_no_pdf(
    run: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert textbook.main([run.shown, "--pdf"]) == 1
    assert "no Chromium or Chrome" in capsys.readouterr().out
    assert run.exists("textbook.html")
