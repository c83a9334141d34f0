"""What is assumed or measured of stages and engines, and samples of it for the intervals.

The last axis of every array is the trial: one sample of all that is uncertain.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from limo_ray.plan.config import SpeedConfig, StageAssumption
from limo_ray.sampling.stop_rule_math import RATES, beta_weights

LENGTHS = 500  # values that stand for a distribution of lengths
QUANTILES = (np.arange(LENGTHS) + 0.5) / LENGTHS
PRIOR = 10.0  # problems of a pilot that the assumption counts as


@dataclass(slots=True)
class StageSamples:
    """What a stage is like in each trial."""

    rates: np.ndarray
    """(CLASSES, trials): weights of RATES among the problems that come to the stage."""
    correct: np.ndarray
    """(LENGTHS, trials): lengths of correct completions in tokens, each as likely."""
    other: np.ndarray
    """(LENGTHS, trials): the same of all others."""


@dataclass(slots=True)
class EngineSpeed:
    """An engine replica: a token of each of n sequences takes `base` + n * `each` seconds, since a
    step reads the weights once and the cache of each sequence."""

    base: float | np.ndarray
    each: float | np.ndarray
    start_s: float

    @classmethod
    def of(cls, config: SpeedConfig, sequences: int) -> "EngineSpeed":
        """The line through both points of the config.

        Args:
            sequences: at which `full` holds, where the config does not say.
        """
        at = config.at or sequences
        alone, together = 1 / config.one, at / config.full
        each = (together - alone) / (at - 1) if at > 1 else 0.0
        return cls(base=alone - each, each=each, start_s=config.start_s)

    def step(self, sequences: float | np.ndarray) -> np.ndarray:
        """Seconds until each of the sequences has one more token."""
        return np.asarray(self.base + sequences * self.each)

    def times(self, factor: float | np.ndarray) -> "EngineSpeed":
        """So many times faster."""
        return EngineSpeed(self.base / factor, self.each / factor, self.start_s)


def factors(rng: np.random.Generator, error: float, trials: int) -> np.ndarray:
    """(trials,): log-normal with median 1; 95 % lie between 1 / error and error."""
    return np.exp(rng.normal(size=trials) * math.log(error) / 1.96)


@dataclass(slots=True)
class AssumedStage:
    """Beta pass rates and log-normal lengths, each uncertain by a factor."""

    assumed: StageAssumption
    max_tokens: int
    odds_error: float
    tokens_error: float

    def sample(self, rng: np.random.Generator, trials: int) -> StageSamples:
        assumed, odds = self.assumed, factors(rng, self.odds_error, trials)
        means = assumed.alpha * odds / (assumed.alpha * odds + assumed.beta)
        both = assumed.alpha + assumed.beta
        spread = np.exp(norm.ppf(QUANTILES) * assumed.spread)
        longer = spread[:, None] * factors(rng, self.tokens_error, trials)
        correct, other = (
            (median * longer).clip(1, self.max_tokens).round()
            for median in (assumed.tokens_correct, assumed.tokens_other)
        )
        return StageSamples(beta_weights(means * both, (1 - means) * both), correct, other)


@dataclass(slots=True)
class MeasuredStage:
    """Pass rates and lengths of a pilot's attempts.

    The spread of pass rates is what makes the counts likeliest (EM), however the attempts were
    stopped, where the assumption counts as PRIOR problems more: few problems shrink to it, many
    speak for themselves. Each trial weighs the problems anew (Bayesian bootstrap).
    """

    counts: np.ndarray
    """(m, 3): correct, finished, problems with these."""
    correct: np.ndarray
    """Lengths of the correct completions."""
    other: np.ndarray
    """Lengths of all others."""
    assumed: AssumedStage

    def sample(self, rng: np.random.Generator, trials: int) -> StageSamples:
        found = self.assumed.sample(rng, trials)
        solved, finished, problems = self.counts.T
        logs = np.outer(np.log(RATES), solved) + np.outer(np.log1p(-RATES), finished - solved)
        likelihood = np.exp(logs - logs.max(axis=0))  # (CLASSES, m)
        for trial in range(trials):
            start, weighed = found.rates[:, trial].copy(), rng.gamma(problems)
            for _ in range(60):
                share = likelihood * found.rates[:, trial, None]
                weights = PRIOR * start + (share / share.sum(axis=0)) @ weighed
                found.rates[:, trial] = weights / weights.sum()
            for lengths, sample in ((self.correct, found.correct), (self.other, found.other)):
                if len(lengths):
                    resampled = rng.choice(lengths, min(len(lengths), 10_000))
                    sample[:, trial] = np.quantile(resampled, QUANTILES)
        return found
