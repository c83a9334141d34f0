"""Which evaluation scores a student, and what of it is the score."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limo_ray.core import config as configs
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.study import training
from limo_ray.train.config import TrainConfig


def config(store: Path, **settings: Any) -> TrainConfig:
    given = {"model": "x", "data": "x", "store": store,
             "scores.evaluate": "{preset: conf/evaluate/laptop.yaml}"} | settings  # fmt: skip
    return configs.load(TrainConfig, [f"{key}={value}" for key, value in given.items()])


def test_the_student_is_evaluated_in_the_trainings_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EvaluateConfig] = []

    def evaluate(given: EvaluateConfig, device: str) -> Any:
        asked.append(given)
        score = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 7}
        runs = [{"scores": {each.name: {"pass@1": score} for each in given.chosen()}}]
        return SimpleNamespace(results={"runs": runs})

    monkeypatch.setattr(training, "evaluate", evaluate)
    score = training.scorer(config(tmp_path), "cpu")
    assert not asked
    assert score("store/models/x", "x-step-3") == {"value": 0.4, "low": 0.3, "high": 0.5}
    assert (asked[0].model, asked[0].name) == ("store/models/x", "x-step-3")
    assert asked[0].engine.model == "store/models/x"
    assert asked[0].store == str(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scores.benchmark": "other"}, "scores.benchmark: 'other' is none of held_out"),
        ({"scores.evaluate": "{preset: conf/evaluate/laptop.yaml, seeed: 1}"}, "scores.evaluate: "),
    ],
)
def test_an_evaluation_that_cannot_be_is_an_error(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        training.scorer(config(tmp_path, **settings), "cpu")
