"""A study with the jobs themselves: a scripted curation and evaluation, real trainings."""

import json
from pathlib import Path
from typing import Any

import pytest

from limo_ray.core import config as configs
from limo_ray.storage.store import Store
from limo_ray.study.config import StudyConfig
from limo_ray.study.job import study
from tests.train import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, local_ray: Any) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny.model_folder(folder / "model")
    study(load(folder), "cpu")
    return folder


def load(folder: Path, *more: str) -> StudyConfig:
    small = [f"store={folder / 'store'}", f"train.model={folder / 'model'}",
             "train.compute.precision=float32", "train.zero.bucket=100000",
             "train.workers.cpus=0.5", "train.rows.max_tokens=1024"]  # fmt: skip
    return configs.load(StudyConfig, [str(ROOT / "conf/study/tiny.yaml"), *small, *more])


def results(folder: Path, name: str = "tiny") -> dict[str, Any]:
    return Store(str(folder / "store")).read_json(f"studies/{name}/results.json")


def test_every_training_has_the_same_steps_and_learned_tokens(place: Path) -> None:
    trained = [cell for cell in results(place)["cells"] if cell["trained"]]
    assert len(trained) == 4
    assert {cell["steps"] for cell in trained} == {3}
    learned = [cell["learned_tokens"] for cell in trained]
    # three steps of two examples differ by an example; a hundred steps are within 1 %
    # (test_budget)
    assert max(learned) - min(learned) < max(learned) / (3 * 2)


def test_the_same_command_again_trains_nothing(place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.glob("store/cells/*/cell.json")}
    study(load(place), "cpu")
    after = {path: path.stat().st_mtime_ns for path in place.glob("store/cells/*/cell.json")}
    assert len(before) == 5 and before == after


def test_models_and_checkpoints_are_gone_and_the_report_is_there(place: Path) -> None:
    assert not list(place.glob("store/models/*/*.safetensors"))
    assert not list(place.glob("store/training/*/checkpoints"))
    page = (place / "store/studies/tiny/report.html").read_text()
    assert "limo against random" in page and "<polyline" in page
    assert json.dumps("http://")[1:-1] not in page.replace("http://www.w3.org", "")


def test_an_arm_from_the_whole_pool_needs_no_other_curation(place: Path) -> None:
    more = ["name=pool", "axes={set: [kept, pool], seed: [0]}", "random_arm=false",
            "cells=[{selection: random, examples: 4}]",
            "comparisons=[{a: {set: kept}, b: {set: pool}}]"]  # fmt: skip
    before = len(list(place.glob("store/runs/*/manifest.json")))
    study(load(place, *more), "cpu")
    assert len(list(place.glob("store/runs/*/manifest.json"))) == before == 1
    found = results(place, "pool")
    assert [one["name"] for one in found["comparisons"]] == [
        "from the kept problems against from the whole pool"
    ]
    assert any("dropped problems have a chain, by strong" in note for note in found["notes"])
