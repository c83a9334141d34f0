"""A finished run as tables."""

from pathlib import Path

import pytest

from limo_ray import open_run
from tests.runs import finished_run
from tests.runs.finished_run import EASY, KEPT, UNUSED


def test_a_run_is_read_as_tables(tmp_path: Path) -> None:
    run = open_run(finished_run.make(tmp_path))
    assert run.manifest["name"] == "small"
    assert list(run.examples()["question"]) == ["What is kept1?"]
    assert len(run.ledger()) == 3
    problems = run.problems()
    assert sorted(problems["id"]) == [KEPT, UNUSED], "a dropped problem is not kept"
    assert list(zip(problems["correct"], problems["finished"], strict=True)) == [(1, 4), (1, 4)]
    assert run.table("ledger").num_rows == 3


def test_attempts_are_those_of_the_runs_problems_in_all_its_logs(tmp_path: Path) -> None:
    found = open_run(finished_run.make(tmp_path)).attempts()
    assert dict(found.groupby("stage").size()) == {"weak": 6, "strong": 6}
    assert set(found["problem_id"]) == {KEPT, EASY}, "the log is shared with other runs"


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not <store>/runs/<name>"):
        open_run(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"runs/none has no manifest.json"):
        open_run(f"{tmp_path}/runs/none")
    with pytest.raises(ValueError, match="table: 'example' is none of examples, ledger"):
        open_run(finished_run.make(tmp_path)).table("example")
