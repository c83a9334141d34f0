"""Whole trainings of a tiny model on made-up rollouts: the result, and what survives kill -9."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from limo_ray.core import config as configs
from limo_ray.rl.config import RLConfig
from limo_ray.rl.job import reinforce
from limo_ray.storage.store import Store
from tests.rl.rl_runs import overrides
from tests.train import tiny

TIMES = ("draw_s", "learn_s", "seconds", "new")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rl")
    tiny.model_folder(folder / "model")
    return folder


def run(place: Path, **changed: Any) -> Any:
    return reinforce(configs.load(RLConfig, overrides(place, **changed)), "cpu")


def curve(place: Path, name: str) -> list[dict[str, Any]]:
    file = place / "store" / "rl" / name / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def whole(place: Path, local_ray: Any) -> list[dict[str, Any]]:
    """The course of a run that nothing disturbs."""
    result = run(place)
    assert "held-out accuracy" in result.summary()
    return curve(place, "tiny")


def test_a_training_leaves_model_report_and_metrics(
    place: Path, whole: list[dict[str, Any]]
) -> None:
    from safetensors.torch import load_file

    store = place / "store"
    assert [row["step"] for row in whole] == [1, 2, 3]
    for row in whole:
        assert row["learned"] == 4 * row["mixed"] > 0
        assert row["rollouts"] == row["learned"] + 2 * (row["tried"] - row["mixed"])
        assert row["carried"] == pytest.approx(row["learned"] / row["rollouts"])
        assert row["grad_norm"] > 0
    assert [("held_out" in row) for row in whole] == [False, True, True]
    before = load_file(place / "model" / "model.safetensors")
    after = load_file(store / "models" / "tiny" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)
    page = (store / "rl" / "tiny" / "report.html").read_text()
    assert "Sampled completions" in page and "Held-out accuracy" in page
    assert not (place / "weights").exists() or not list((place / "weights").iterdir())
    assert list((store / "rl" / "tiny" / "tensorboard").iterdir())
    rerun = run(place)
    assert rerun.resumed and rerun.metrics["steps"] == 3


def test_workers_and_stage_change_neither_loss_nor_gradient(
    place: Path, whole: list[dict[str, Any]]
) -> None:
    other = place / "spread"
    shutil.copytree(place / "model", other / "model")
    spread = {"workers": "{count: 2, device: cpu, cpus: 0.5}", "zero.stage": 3, "steps": 1}
    run(other, **spread, **{"checkpoint.every_steps": 9})
    (row,) = curve(other, "tiny")
    for name in ("loss", "grad_norm", "entropy", "engine_gap", "clip_share"):
        assert row[name] == pytest.approx(whole[0][name], rel=1e-3, abs=1e-6), name
    assert row["groups"] == whole[0]["groups"]


def attempts(place: Path) -> int:
    store = Store(str(place / "store"))
    return sum(
        store.read_table(f"attempts/{folder}/{name}").num_rows
        for folder in store.folders("attempts")
        for name in store.files(f"attempts/{folder}")
    )


@pytest.mark.parametrize("victim", ["RayTrainWorker", "RolloutEngine"])
def test_a_killed_process_changes_nothing(
    place: Path, whole: list[dict[str, Any]], victim: str
) -> None:
    other = place / victim
    shutil.copytree(place / "model", other / "model")
    killed: list[int] = []

    def kill() -> None:
        """When the second step's rollouts are there."""
        while not list((other / "store/rl/tiny/rollouts").glob("000001-*/*.parquet")):
            time.sleep(0.02)
        for process in psutil.Process().children(recursive=True):
            if victim in process.name():
                process.kill()
                killed.append(process.pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    run(other)
    thread.join()
    assert killed
    assert curve(other, "tiny") == whole
    drawn = sum(row["rollouts"] for row in whole) + 3 * 6 * 2  # three evaluations
    assert attempts(other) == drawn
