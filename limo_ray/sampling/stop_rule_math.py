"""What a stop rule does to problems of a given pass rate, exactly: no attempt is simulated.

The sampler starts only attempts that one-by-one sampling would (`StopRule.room`), so the number of
attempts at a problem is the time at which a walk over (finished, correct) reaches a decision. Its
mean follows by going through those states once, for all pass rates together.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta as beta_distribution

from limo_ray.sampling.stop_rule import Decision, StopRule

CLASSES = 160
EDGES = np.sin(np.linspace(0, np.pi / 2, CLASSES + 1)) ** 2
RATES = (EDGES[1:] + EDGES[:-1]) / 2
"""The pass rates (CLASSES,) that a problem may have: fine where budgets tell rates apart, near 0
and near 1."""


def beta_weights(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Beta(alpha, beta) as weights (CLASSES, ...) of RATES, of parameters of shape (...)."""
    edges = EDGES.reshape(-1, *[1] * np.ndim(alpha))
    return np.diff(beta_distribution.cdf(edges, alpha, beta), axis=0)


@dataclass(slots=True)
class Walk:
    """What becomes of a problem of each of the RATES; all arrays are (CLASSES,)."""

    attempts: np.ndarray  # mean number
    correct: np.ndarray  # mean number of correct ones
    kept: np.ndarray  # probability


def walk(rule: StopRule) -> Walk:
    """Goes through the states that a rule leaves undecided, from no attempt to the last."""
    attempts, correct, kept = np.zeros((3, CLASSES))
    reached = {0: np.ones(CLASSES)}  # correct so far -> probability of being there
    for finished in range(rule.budget + 1):
        following: dict[int, np.ndarray] = {}
        for count, chance in reached.items():
            decision = rule.decide(count, finished)
            if decision is None:
                following[count + 1] = following.get(count + 1, 0) + chance * RATES
                following[count] = following.get(count, 0) + chance * (1 - RATES)
            else:
                kept += chance * (decision is Decision.KEEP)
                attempts += finished * chance
                correct += count * chance
        reached = following
    return Walk(attempts, correct, kept)
