"""What is believed of a stage and of an engine, and how sure; each trial draws one truth from it.

A truth is what the simulation then takes for granted: the spread of pass rates among the problems
that reach a stage, the lengths of completions, the speed of an engine.
"""

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from limo_ray.plan.config import SpeedConfig, StageAssumption
from limo_ray.plan.stop_rule_math import RATES, beta_weights

LENGTHS = 500  # values that stand for a distribution of lengths


@dataclass(slots=True)
class StageTruth:
    """A stage as it is in one trial."""

    rates: np.ndarray  # weights (CLASSES,) of exact.RATES among the problems that reach the stage
    correct: np.ndarray  # (n,) lengths of correct completions in tokens, each as likely
    other: np.ndarray  # (n,) the same of all others
    prompt: float  # mean prompt in tokens

    @property
    def mean_rate(self) -> float:
        return float(self.rates @ RATES)


@dataclass(slots=True)
class Speed:
    """An engine replica as it is in one trial: a step takes `base` + n * `each` seconds for a token
    of each of n sequences, which read the weights once and their own caches each."""

    base: float
    each: float
    start_s: float

    @classmethod
    def of(cls, config: SpeedConfig, sequences: int) -> "Speed":
        """Through both points of the config.

        Args:
            sequences: at which `full` holds, where the config does not tell.

        Raises ValueError for sequences that would be faster together than alone.
        """
        at = config.at or sequences
        alone, together = 1 / config.one, at / config.full
        if together < alone:
            raise ValueError(
                f"{at} sequences of at most {config.one:g} tokens/s each (`one`) cannot make "
                f"{config.full:g} (`full`)"
            )
        each = (together - alone) / (at - 1) if at > 1 else 0.0
        return cls(base=alone - each, each=each, start_s=config.start_s)

    def step(self, sequences: int) -> float:
        """Seconds until each of the sequences has one more token."""
        return self.base + sequences * self.each

    def times(self, factor: float) -> "Speed":
        """So many times faster."""
        return replace(self, base=self.base / factor, each=self.each / factor)


def factor(rng: np.random.Generator, error: float) -> float:
    """Log-normal with median 1; 95 % lie between 1 / error and error."""
    return math.exp(rng.normal() * math.log(error) / 1.96)


def _log_normal(median: float, spread: float, longest: int) -> np.ndarray:
    normal = NormalDist()
    places = [normal.inv_cdf((i + 0.5) / LENGTHS) for i in range(LENGTHS)]
    return np.clip(np.exp(np.array(places) * spread) * median, 1, longest).round()


@dataclass(slots=True)
class AssumedStage:
    """Beta pass rates and log-normal lengths, each uncertain by a factor."""

    assumed: StageAssumption
    longest: int
    odds_error: float
    tokens_error: float
    basis: str = "assumed"

    def truth(self, rng: np.random.Generator | None) -> StageTruth:
        """One truth; without a generator the central one."""
        odds = factor(rng, self.odds_error) if rng else 1.0
        longer = factor(rng, self.tokens_error) if rng else 1.0
        one = self.assumed
        mean = one.alpha / (one.alpha + one.beta)
        moved = mean * odds / (mean * odds + 1 - mean)
        worth = one.alpha + one.beta
        return StageTruth(
            rates=beta_weights(moved * worth, (1 - moved) * worth),
            correct=_log_normal(one.tokens_correct * longer, one.spread, self.longest),
            other=_log_normal(one.tokens_other * longer, one.spread, self.longest),
            prompt=one.prompt_tokens,
        )


@dataclass(slots=True)
class MeasuredStage:
    """Pass rates and lengths of a pilot's attempts.

    The spread of pass rates is fitted in two steps. A Beta distribution is fitted to the counts
    (correct, finished), whose likelihood is the same however the draws were stopped; then the
    weights of RATES are moved from it towards what the problems themselves say (EM), where the Beta
    counts as `prior` problems more: few problems shrink to it, many speak for themselves. Each
    trial weighs the problems anew (Bayesian bootstrap) and takes one of the Betas that fit.
    """

    counts: np.ndarray  # (m, 3): correct, finished, problems with these
    correct: np.ndarray  # lengths of the correct completions
    other: np.ndarray  # and of all others
    prompt: float
    assumed: StageAssumption  # what it is like where the pilot tells nothing
    prior: float = 10.0
    basis: str = "pilot"
    likelihood: np.ndarray = field(init=False)
    """(m, CLASSES): of each kind of counts under each of RATES, up to a factor."""
    bases: np.ndarray = field(init=False)
    """(n, CLASSES): the Beta distributions that are tried."""
    chances: np.ndarray = field(init=False)
    """(n,): how likely each of them is."""

    def __post_init__(self) -> None:
        correct, finished, problems = self.counts.T
        wrong = (finished - correct)[:, None]
        logs = correct[:, None] * np.log(RATES) + wrong * np.log1p(-RATES)
        self.likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
        # Betas on a grid of (mean, worth); the prior of the worth is broad around the assumed one
        assumed = self.assumed.alpha + self.assumed.beta
        means = 1 / (1 + np.exp(-np.linspace(-5, 5, 61)))
        worths = assumed * np.exp(np.linspace(-3, 3, 13))
        self.bases = np.array([beta_weights(m * w, (1 - m) * w) for m in means for w in worths])
        logs = np.log(self.bases @ self.likelihood.T + 1e-300) @ problems
        logs -= np.tile((np.log(worths / assumed) / 1.5) ** 2 / 2, len(means))
        chances = np.exp(logs - logs.max())
        self.chances = chances / chances.sum()

    def truth(self, rng: np.random.Generator | None) -> StageTruth:
        """One truth; without a generator the central one."""
        problems = self.counts[:, 2].astype(float)
        heard = rng.gamma(problems) if rng else problems
        chosen = rng.choice(len(self.bases), p=self.chances) if rng else self.chances.argmax()
        return StageTruth(
            rates=_moved(self.bases[chosen], self.likelihood, heard, self.prior),
            correct=self._lengths(self.correct, self.assumed.tokens_correct, rng),
            other=self._lengths(self.other, self.assumed.tokens_other, rng),
            prompt=self.prompt,
        )

    def _lengths(
        self, found: np.ndarray, median: float, rng: np.random.Generator | None
    ) -> np.ndarray:
        if not len(found):  # say, no correct one: then none will be needed, or hardly any
            return np.array([median])
        if rng is None:
            return np.quantile(found, (np.arange(LENGTHS) + 0.5) / LENGTHS, method="nearest")
        return rng.choice(found, min(len(found), 10_000))


def _moved(
    base: np.ndarray, likelihood: np.ndarray, heard: np.ndarray, prior: float, rounds: int = 60
) -> np.ndarray:
    """Weights (CLASSES,) between `base` and those under which what was `heard` is likeliest."""
    weights = base
    for _ in range(rounds):
        share = likelihood * weights
        share = share / share.sum(axis=1, keepdims=True)
        weights = prior * base + heard @ share
        weights = weights / weights.sum()
    return weights
