"""Whole trainings under Ray Train: the result, and what survives kill -9."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from limo_ray.core import config as configs
from limo_ray.core.errors import TrainingError
from limo_ray.storage.store import Store
from limo_ray.train.checkpoints import check_resumable
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import stop_message, train
from tests import processes
from tests.chaos.test_chaos import can_mount
from tests.train import tiny

ROOT = Path(__file__).parent.parent.parent
Curve = list[dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    tiny.model_folder(folder / "model")
    tiny.data_file(folder / "data.jsonl")
    return folder


def arguments(place: Path, **changed: Any) -> list[str]:
    small = {"optimizer.epochs": 4, "rows.held_out": 4, "checkpoint.every_steps": 2}
    return tiny.overrides(place, **small | changed)


def run(place: Path, **changed: Any) -> Any:
    return train(configs.load(TrainConfig, arguments(place, **changed)), "cpu")


def curve(place: Path, name: str) -> Curve:
    file = place / "store" / "training" / name / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(place: Path, local_ray: Any) -> Curve:
    result = run(place, **{"checkpoint.best": "true"})
    assert result.metrics["steps"] == 12
    return curve(place, "tiny")


def same(found: Curve, wanted: Curve) -> None:
    assert [row["step"] for row in found] == [row["step"] for row in wanted]
    for row, want in zip(found, wanted, strict=True):
        assert row["loss"] == pytest.approx(want["loss"], abs=1e-3)
        assert row["lr"] == want["lr"]


def test_a_training_learns_and_leaves_everything(place: Path, undisturbed: Curve) -> None:
    assert undisturbed[-1]["held_out_loss"] < undisturbed[2]["held_out_loss"]
    folder = place / "store" / "training" / "tiny"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["metrics"]["held_out_loss"] < manifest["metrics"]["held_out_before"]
    assert list((folder / "tensorboard").glob("events*"))
    assert "<polyline" in (folder / "report.html").read_text()
    kept = sorted(path.name for path in (folder / "checkpoints" / manifest["key"]).glob("step_*"))
    assert kept == ["step_000010", "step_000012"]
    assert (folder / "best" / "model.safetensors").is_file()


def test_the_folder_is_a_model_with_these_weights(place: Path, undisturbed: Curve) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = place / "store" / "models" / "tiny"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == tiny.CHATML
    card = (folder / "README.md").read_text()
    assert "held-out loss" in card and "lr: 0.001" in card
    config = configs.load(TrainConfig, arguments(place))
    from limo_ray.train.sft import load_data

    _, data = load_data(config)
    total = 0.0
    for one in data.held_out:  # the plain way: whole logits, one example at a time
        ids = torch.from_numpy(one.ids.astype("int64"))[None]
        labels = ids.where(torch.from_numpy(one.learn), torch.tensor(-100))
        total += model(input_ids=ids, labels=labels).loss.item() * one.targets
    plain = total / sum(one.targets for one in data.held_out)
    assert plain == pytest.approx(undisturbed[-1]["held_out_loss"], abs=1e-3)


def test_the_same_command_does_nothing_again(place: Path, undisturbed: Curve) -> None:
    files = ("models/tiny/model.safetensors", "training/tiny/metrics.jsonl")
    before = [(place / "store" / file).stat().st_mtime_ns for file in files]
    assert run(place, **{"checkpoint.best": "true"}).resumed
    assert [(place / "store" / file).stat().st_mtime_ns for file in files] == before


def _workers(root: psutil.Process) -> list[psutil.Process]:
    return [p for p in root.children(recursive=True) if "RayTrainWorker" in p.name()]


def test_a_killed_worker_changes_nothing(place: Path, undisturbed: Curve) -> None:
    killed: list[int] = []

    def kill() -> None:
        folder = place / "store" / "training" / "killed" / "checkpoints"
        while not list(folder.glob("*/step_000004/limo_ray.json")):
            time.sleep(0.05)
        worker = _workers(psutil.Process())[0]
        worker.send_signal(signal.SIGKILL)
        killed.append(worker.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    run(place, name="killed")
    thread.join()
    assert killed
    same(curve(place, "killed"), undisturbed)


def test_a_killed_driver_changes_nothing(place: Path, undisturbed: Curve) -> None:
    preset = place / "preset.yaml"
    preset.write_text("seed: 0\n")
    job = str(ROOT / "jobs" / "train.py")  # from another folder, as people do
    here = {"store": "store", "model": "./model", "data": "data.jsonl"}
    command = [sys.executable, job, str(preset), *arguments(place, name="driver", **here)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    alone = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    driver = subprocess.Popen(command, cwd=place, env=alone, **quiet)  # type: ignore[call-overload]
    folder = place / "store" / "training" / "driver" / "checkpoints"
    while driver.poll() is None and not list(folder.glob("*/step_000006/limo_ray.json")):
        time.sleep(0.1)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    processes.end(family)
    assert not (folder.parent / "manifest.json").exists()
    done = subprocess.run(
        command, cwd=place, env=alone, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "12 steps" in done.stdout
    assert processes.quiet(done.stdout + done.stderr)
    same(curve(place, "driver"), undisturbed)
    assert (place / "store" / "models" / "driver" / "model.safetensors").is_file()
    assert list((folder.parent / "tensorboard").glob("events*"))
    before = [
        json.loads((folder.parent.parent / name / "manifest.json").read_text())["metrics"]
        for name in ("driver", "tiny")
    ]
    assert before[0]["held_out_before"] == before[1]["held_out_before"] is not None


def test_a_full_disk_at_a_save_changes_nothing(
    place: Path, undisturbed: Curve, tmp_path: Path
) -> None:
    """The training may fail; the same command then goes on from the last whole checkpoint."""
    if not can_mount(tmp_path):
        pytest.skip("only root can mount a disk of its own")
    disk = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(tmp_path)]
    subprocess.run(disk, check=True)
    folder, filled = tmp_path / "training" / "full", []

    def fill() -> None:
        while not list(folder.glob("checkpoints/*/step_000004/limo_ray.json")):
            time.sleep(0.01)
        with contextlib.suppress(OSError), (tmp_path / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**14))
        filled.append((tmp_path / "filler").stat().st_size)
        time.sleep(2)
        (tmp_path / "filler").unlink()

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        for _ in range(4):
            with contextlib.suppress(TrainingError, OSError):
                run(place, name="full", store=tmp_path)
                break
            thread.join()
        assert filled
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        same([json.loads(line) for line in lines], undisturbed)
    finally:
        thread.join()
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_training_that_is_scored_is_the_same_and_stops_early(
    place: Path, undisturbed: Curve
) -> None:
    values = iter([0.3, 0.6, 0.5])
    asked: list[tuple[str, bytes]] = []

    def evaluate(model: str, name: str) -> dict[str, float]:
        asked.append((name, (Path(model) / "model.safetensors").read_bytes()))
        value = next(values)
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    scored = {"scores.evaluate": "{preset: x}", "scores.patience": 1, "checkpoint.best": True}
    config = configs.load(TrainConfig, arguments(place, name="scored", **scored))
    with pytest.raises(ValueError, match="scores: need an evaluation"):
        train(config, "cpu")
    result = train(config, "cpu", evaluate)
    assert [name for name, _ in asked] == ["scored-step-3", "scored-step-6", "scored-step-9"]
    same(curve(place, "scored"), undisturbed[:9])
    assert [score["value"] for score in result.metrics["scores"]] == [0.3, 0.6, 0.5]
    folder = place / "store" / "training" / "scored"
    assert (folder / "best" / "model.safetensors").read_bytes() == asked[1][1] != asked[2][1]
    assert "pass@1" in (folder / "report.html").read_text()


def test_no_number_stops_with_the_last_good_checkpoint_named(place: Path, local_ray: Any) -> None:
    with pytest.raises(TrainingError, match=r"step \d+: the .* is (nan|inf); .*optimizer.lr"):
        run(place, name="wild", **{"optimizer.lr": 1e30, "optimizer.clip": 0})


@pytest.mark.parametrize(
    ("saved", "good"), [([2, 4, 6], "step_000004"), ([6], "no good"), ([], "no")]
)
def test_the_checkpoint_named_is_one_whose_weights_were_still_sound(
    tmp_path: Path, saved: list[int], good: str
) -> None:
    config = configs.load(TrainConfig, arguments(tmp_path))
    facts = {"checkpoints": saved}
    stopped = {"step": 7, "why": "the loss is nan"}  # step 6 made the weights that gave it
    assert good in stop_message(stopped, facts, config, Store(str(tmp_path)), "key")


def test_other_workers_are_refused_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / "step_000004"
    folder.mkdir()
    made_by = {"workers": 4, "stage": 3, "offload": False}
    (folder / "limo_ray.json").write_text(json.dumps({"made_by": made_by, "history": []}))
    snapshot = {"latest_checkpoint_result": {"checkpoint_dir_name": "step_000004"}}
    (tmp_path / "checkpoint_manager_snapshot.json").write_text(json.dumps(snapshot))
    config = configs.load(TrainConfig, arguments(tmp_path))
    with pytest.raises(TrainingError, match=r"step_000004 was made with 4 worker\(s\).*2 worker"):
        check_resumable(config, Store(str(tmp_path)))
    config.workers.count = 4
    check_resumable(config, Store(str(tmp_path)))
    check_resumable(config, Store(str(tmp_path / "nothing")))
