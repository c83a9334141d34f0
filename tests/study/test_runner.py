"""Whole studies on stand-ins for the jobs: what is done once, kills, failures, planted effects."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from limo_ray.study import runner
from limo_ray.study.job import StudyError
from tests.study.stand_ins import arguments, calls, run

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
GRID = "{examples: [4, 8], selection: [limo, longest], seed: [0, 1, 2]}"


def study(store: Path, *more: str, axes: str = GRID, stand: dict[str, Any] | None = None) -> Any:
    return run(store, arguments(store, f"axes={axes}", *more), **stand or {})


def test_a_study_leaves_results_and_does_each_cell_once(tmp_path: Path) -> None:
    study(tmp_path)
    made = Counter(line.split()[0] for line in calls(tmp_path))
    assert made == {"train": 18, "evaluate": 19, "done": 19}  # 3 selections, and the untrained
    rows = pq.read_table(tmp_path / "studies/tiny/results.parquet").to_pylist()
    assert len({row["cell"] for row in rows}) == 19 and {row["metric"] for row in rows} == {
        "pass@1"
    }
    results = json.loads((tmp_path / "studies/tiny/results.json").read_text())
    assert [one["name"] for one in results["comparisons"]] == [
        "limo against random", "longest against random",
    ]  # fmt: skip
    assert "limo against random on held_out" in (tmp_path / "studies/tiny/results.md").read_text()
    study(tmp_path)
    study(tmp_path, "name=other", axes="{examples: [4], seed: [0, 1, 2]}")  # shares cells
    assert Counter(line.split()[0] for line in calls(tmp_path)) == made


def test_what_changes_a_cell_makes_another_one(tmp_path: Path) -> None:
    axes = "{examples: [4], seed: [0]}"
    study(tmp_path, axes=axes)
    for more in ("train.optimizer.lr=1e-3", "evaluate.seed=3", "steps=5", "train.model=other/model",
                 "curate.selection.seed=0"):  # fmt: skip
        before = len(calls(tmp_path))
        study(tmp_path, more, axes=axes)
        new = [line.split()[0] for line in calls(tmp_path)[before:]]
        changed = {"train": "train" in new, "evaluate": "evaluate" in new}
        assert changed == {
            "train": more.split("=")[0] in ("train.optimizer.lr", "steps", "train.model")
            or more == "evaluate.seed=3",
            "evaluate": more != "curate.selection.seed=0",
        }, more


@pytest.mark.process
@pytest.mark.parametrize("point", ["train:3", "evaluate:3", "done:3"])
def test_a_killed_study_does_only_what_is_missing(tmp_path: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.study.stand_ins", str(tmp_path), f"kill={point}"]
    axes = "{examples: [4, 8], seed: [0, 1]}"
    killed = subprocess.run(
        [*command, *arguments(tmp_path, f"axes={axes}")], cwd=ROOT, capture_output=True, timeout=400
    )
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    whole = {path.parent.name for path in tmp_path.glob("cells/*/cell.json")}
    assert 0 < len(whole) < 9
    before = calls(tmp_path)
    study(tmp_path, axes=axes)
    after = calls(tmp_path)[len(before) :]
    assert not {line.split()[1].removeprefix("study-") for line in after} & whole
    assert len([line for line in after if line.startswith("done")]) == 9 - len(whole)


def test_a_cell_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    axes = "{examples: [4, 8], seed: [0, 1]}"
    with pytest.raises(StudyError, match=r"4 of 9 cells failed .*fails on purpose"):
        study(tmp_path, axes=axes, stand={"fail": 8})
    assert len(list(tmp_path.glob("cells/*/cell.json"))) == 5
    results = json.loads((tmp_path / "studies/tiny/results.json").read_text())
    assert len(results["failures"]) == 4
    assert "not answered" in results["comparisons"][0]["sentence"]
    before = len(calls(tmp_path))
    study(tmp_path, axes=axes)
    assert len([line for line in calls(tmp_path)[before:] if line.startswith("train")]) == 4
    assert not list(tmp_path.glob("cells/*/failed.json"))


def test_models_that_are_not_kept_are_trained_again_when_needed(tmp_path: Path) -> None:
    axes = "{examples: [4], seed: [0]}"
    study(tmp_path, "keep_models=false", axes=axes)
    assert not list(tmp_path.glob("models/*"))
    before = len(calls(tmp_path))
    study(tmp_path, "evaluate.seed=3", axes=axes)
    assert len([line for line in calls(tmp_path)[before:] if line.startswith("train")]) == 2


def test_cells_run_in_parallel_as_ray_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, ...]] = []

    class Remote:
        def __init__(self, call: Any) -> None:
            self.call = call

        def remote(self, *values: Any) -> Any:
            made.append(values)
            return self.call(*values)

    monkeypatch.setattr(runner.ray, "remote", lambda **asked: Remote)
    monkeypatch.setattr(runner.ray, "get", lambda value: value)
    study(tmp_path, "max_parallel=3", axes="{examples: [4], seed: [0, 1]}")
    assert len(made) == len(list(tmp_path.glob("cells/*/cell.json"))) == 5


def test_other_studies_are_laid_over(tmp_path: Path) -> None:
    study(tmp_path, "name=first")
    study(tmp_path, "name=second", "against=[first]")
    page = (tmp_path / "studies/second/report.html").read_text()
    assert "first: limo" in page
    with pytest.raises(ValueError, match=r"against: 'third' has no results"):
        study(tmp_path, "against=[third]")


def test_a_planted_difference_is_found_by_a_whole_study(tmp_path: Path) -> None:
    axes = "{examples: [3, 5, 8, 13], selection: [longest], seed: [0, 1, 2]}"
    results = study(tmp_path, axes=axes, stand={"effect": 0.25}).results
    assert results["comparisons"][0]["clear"] and results["comparisons"][0]["value"] > 0
