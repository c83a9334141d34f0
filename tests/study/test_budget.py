"""Every cell learns as much in as many steps, however many and however long its examples are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limo_ray.core import config as configs
from limo_ray.study.budget import steps_of, tokens_of, with_budget
from limo_ray.study.config import StudyConfig
from limo_ray.train.config import TrainConfig
from limo_ray.train.table import batch_layout
from tests.study.stand_ins import arguments

# a small set of long chains, a large one of short ones, and others between
SIZES = [(12, 160), (24, 90), (48, 60), (96, 110), (400, 75)]


def cells() -> list[tuple[TrainConfig, tuple[int, ...]]]:
    rng = np.random.default_rng(0)
    train = TrainConfig(model="m", data="d")
    train = replace(train, batch=replace(train.batch, examples=8),
                    optimizer=replace(train.optimizer, epochs=2))  # fmt: skip
    return [
        (replace(train, seed=place), tuple(rng.integers(mean // 2, 3 * mean // 2, count).tolist()))
        for place, (count, mean) in enumerate(SIZES)
    ]


def learned(config: TrainConfig, targets: tuple[int, ...]) -> tuple[int, int]:
    """Steps of a training and the learned tokens in them."""
    schedule = batch_layout(config, len(targets), targets).schedule
    batches = [schedule.batch_of(step) for step in range(schedule.steps)]
    return len(batches), sum(targets[one] for batch in batches for one in batch)


def budgeted(budget: str) -> list[tuple[int, int]]:
    config = configs.load(StudyConfig, arguments(Path("store"), budget=budget))
    drafts = cells()
    steps = steps_of(config, [(train, len(targets)) for train, targets in drafts])
    tokens = tokens_of(config, drafts)
    return [learned(with_budget(train, budget, steps, tokens), targets)
            for train, targets in drafts]  # fmt: skip


def test_tokens_are_the_same_steps_and_learned_tokens_within_one_per_cent() -> None:
    found = budgeted("tokens")
    assert {steps for steps, _ in found} == {100}  # two epochs of 400 in eights
    tokens = [tokens for _, tokens in found]
    assert max(tokens) / min(tokens) < 1.01


def test_steps_are_the_same_steps_and_epochs_are_not() -> None:
    assert {steps for steps, _ in budgeted("steps")} == {100}
    tokens = [tokens for _, tokens in budgeted("steps")]
    assert max(tokens) / min(tokens) > 1.5  # that is why it is not the default
    assert [steps for steps, _ in budgeted("epochs")] == [4, 6, 12, 24, 100]


def test_a_preset_can_fix_the_budget() -> None:
    config = configs.load(
        StudyConfig, arguments(Path("store"), budget="tokens", steps=7, tokens_per_step=900)
    )
    assert steps_of(config, []) == 7 and tokens_of(config, []) == 900
    assert tokens_of(replace(config, tokens_per_step=0), cells()) == pytest.approx(790, rel=0.1)
