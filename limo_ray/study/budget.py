"""Equal budgets: how long each cell's training is, so that "less" is not just "shorter"."""

from dataclasses import replace

import numpy as np

from limo_ray.study.config import StudyConfig
from limo_ray.train.config import TrainConfig

Targets = tuple[int, ...]
"""Learned tokens of each example of a cell."""


def steps_of(config: StudyConfig, trainings: list[tuple[TrainConfig, int]]) -> int:
    """Optimizer steps that all cells take: those of the largest set, unless the config says."""
    return config.steps or max(
        train.optimizer.max_steps or train.optimizer.epochs * -(-examples // train.batch.examples)
        for train, examples in trainings
    )


def tokens_of(config: StudyConfig, trainings: list[tuple[TrainConfig, Targets]]) -> int:
    """Learned tokens of a step in all cells: of a mean batch, in two digits, and no fewer than the
    longest example has."""
    if config.tokens_per_step:
        return config.tokens_per_step
    mean = float(np.mean([
        train.batch.examples * np.mean(targets) for train, targets in trainings
    ]))  # fmt: skip
    grain = 10 ** max(0, int(np.log10(mean)) - 1)
    longest = max(max(targets) for _, targets in trainings)
    return max(round(mean / grain) * grain, longest)


def with_budget(train: TrainConfig, budget: str, steps: int, tokens: int) -> TrainConfig:
    """A training's config with its share of the budget. Epochs are no limit but with `epochs`."""
    if budget == "epochs":
        return train
    optimizer = replace(train.optimizer, epochs=steps, max_steps=steps)
    batch = replace(train.batch, tokens=tokens if budget == "tokens" else 0)
    return replace(train, optimizer=optimizer, batch=batch)
