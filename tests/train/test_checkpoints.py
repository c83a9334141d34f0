"""A checkpoint is whole, or the one before it is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray.train

from limo_ray.core import config as configs
from limo_ray.train import checkpoints
from limo_ray.train.checkpoints import damage, newest_first, write_facts, write_file_list
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import train
from tests.train import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of two workers."""
    (tmp_path / "state").mkdir()
    for rank in (0, 1):
        (tmp_path / f"state/shard-{rank}.pt").write_bytes(bytes([rank]) * 1000)
        write_file_list(tmp_path, rank)
        if rank == 0:
            first = json.loads((tmp_path / "files-0.json").read_text())
            assert first == {"state/shard-0.pt": [1000, checkpoints.zlib.crc32(bytes(1000))]}
    write_facts(tmp_path, {"made_by": {"workers": 2}, "history": []})
    return tmp_path


def cut(folder: Path) -> None:
    (folder / "state/shard-1.pt").write_bytes(b"\x01" * 999)


def flip(folder: Path) -> None:
    (folder / "state/shard-1.pt").write_bytes(b"\x01" * 999 + b"\x00")


def remove(folder: Path) -> None:
    (folder / "state/shard-1.pt").unlink()


def lose_facts(folder: Path) -> None:
    (folder / "limo_ray.json").unlink()


def cut_facts(folder: Path) -> None:
    (folder / "limo_ray.json").write_text('{"made_by": {"wor')


def lose_list(folder: Path) -> None:
    (folder / "files-0.json").unlink()


def test_a_whole_checkpoint_has_no_damage(folder: Path) -> None:
    assert [damage(folder, rank, 2) for rank in (0, 1)] == ["", ""]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut, "state/shard-1.pt has 999 of 1,000 bytes"),
        (flip, "state/shard-1.pt has another checksum"),
        (remove, "state/shard-1.pt is missing"),
        (lose_facts, "limo_ray.json cannot be read"),
        (cut_facts, "limo_ray.json cannot be read"),
        (lose_list, "1 of 2 file lists"),
    ],
)
def test_damage_is_named(folder: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(folder)
    assert words in damage(folder, 1, 2)
    assert words in damage(folder, 0, 1), "one worker looks at what two have written"


def test_a_checkpoint_of_an_older_version_is_taken_as_it_is(folder: Path) -> None:
    for rank in (0, 1):
        (folder / f"files-{rank}.json").unlink()
    assert damage(folder, 0, 2) == ""


def test_the_older_checkpoints_come_in_their_order(tmp_path: Path) -> None:
    for name in ("step_000002", "step_000010", "step_000004", "step_000012", "other"):
        (tmp_path / name).mkdir()
    newest = ray.train.Checkpoint.from_directory(tmp_path / "step_000010")
    names = [Path(found.path).name for found in newest_first(newest)]
    assert names == ["step_000010", "step_000004", "step_000002"]


def test_a_training_goes_on_from_the_last_whole_checkpoint(local_ray: Any, tmp_path: Path) -> None:
    tiny.model_folder(tmp_path / "model")
    tiny.data_file(tmp_path / "data.jsonl")
    settings = {"optimizer.epochs": 2, "checkpoint.every_steps": 2, "checkpoint.every_epoch": False}
    config = configs.load(TrainConfig, tiny.overrides(tmp_path, **settings))
    first = train(config, "cpu")
    run = tmp_path / "store/training/tiny"
    key = json.loads((run / "manifest.json").read_text())["key"]
    newest = max((run / "checkpoints" / key).glob("step_*"))
    shard = max((newest / "state").glob("*optim_states*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    (run / "manifest.json").unlink()

    again = train(config, "cpu")
    assert not again.resumed
    assert again.metrics["steps"] == first.metrics["steps"]
    assert again.metrics["loss"] == pytest.approx(first.metrics["loss"], abs=1e-3)
    made = sorted(path.name for path in (run / "checkpoints" / key).glob("step_*"))
    assert newest.name in made, "the damaged checkpoint is made again"
    assert [damage(newest, rank, 2) for rank in (0, 1)] == ["", ""]
