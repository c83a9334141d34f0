"""When a training stops to be scored, and when it stops for good."""

from pathlib import Path
from typing import Any

import pytest

from limo_ray.core import config as configs
from limo_ray.storage.store import Store
from limo_ray.train.batches import Schedule
from limo_ray.train.config import TrainConfig
from limo_ray.train.scores import Scores

SCHEDULE = Schedule(examples=6, batch=2, epochs=5, max_steps=0, seed=0)  # 3 steps an epoch


def scores(folder: Path, values: list[float], **settings: Any) -> Scores:
    left = iter(values)

    def evaluate(model: str, name: str) -> dict[str, float]:
        value = next(left)
        return {"value": value, "low": value, "high": value}

    given = {"model": "x", "data": "x", "scores.evaluate": "{preset: x}"} | settings
    config = configs.load(TrainConfig, [f"{key}={value}" for key, value in given.items()])
    return Scores(config, Store(str(folder)), SCHEDULE, "key", evaluate)


def run(board: Scores) -> list[int]:
    ends = []
    for end in board.ends():
        ends.append(end)
        board.add(end)
    return ends


@pytest.mark.parametrize(
    ("values", "settings", "ends"),
    [
        ([0.1] * 5, {}, [3, 6, 9, 12, 15]),
        ([0.1] * 3, {"scores.every_epochs": 2}, [6, 12, 15]),
        ([0.1, 0.2, 0.2], {"scores.patience": 1}, [3, 6, 9]),
        ([0.3, 0.2, 0.1], {"scores.patience": 2}, [3, 6, 9]),
        ([0.3, 0.2, 0.4, 0.3, 0.5], {"scores.patience": 2}, [3, 6, 9, 12, 15]),
    ],
)
def test_ends(tmp_path: Path, values: list[float], settings: Any, ends: list[int]) -> None:
    board = scores(tmp_path, values, **settings)
    assert run(board) == ends
    assert [score["value"] for score in board.metrics()["scores"]] == values


def test_what_is_scored_is_not_scored_again(tmp_path: Path) -> None:
    first = scores(tmp_path, [0.1, 0.2])
    for end in first.ends():
        if end > 6:
            break
        first.add(end)
    again = scores(tmp_path, [0.3, 0.4, 0.5])
    assert run(again) == [9, 12, 15]
    assert len(again.found) == 5
    assert run(scores(tmp_path, [])) == [15], "the model is made again, if it was lost"


def test_an_early_end_stays_one(tmp_path: Path) -> None:
    assert run(scores(tmp_path, [0.2, 0.1], **{"scores.patience": 1})) == [3, 6]
    assert run(scores(tmp_path, [], **{"scores.patience": 1})) == [6]
