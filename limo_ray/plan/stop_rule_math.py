"""What a stop rule does to problems of a given pass rate, exactly: no attempt is simulated.

The sampler starts only attempts that one-by-one sampling would (`StopRule.room`), so the number of
attempts at a problem is the time at which a walk over (finished, correct) reaches a decision. Its
distribution follows by going through those states once, for all pass rates together.
"""

from dataclasses import dataclass

import numpy as np

from limo_ray.sampling.stop_rule import Decision, StopRule

CLASSES = 160
EDGES = np.sin(np.linspace(0, np.pi / 2, CLASSES + 1)) ** 2
RATES = (EDGES[1:] + EDGES[:-1]) / 2
"""The pass rates (CLASSES,) that a problem may have: fine where budgets tell rates apart, near 0
and near 1."""


def beta_weights(alpha: float, beta: float) -> np.ndarray:
    """Beta(alpha, beta) as weights (CLASSES,) of RATES.

    The factor that is singular at the nearer end is integrated exactly, the other taken at RATES.
    """
    low, high = EDGES[:-1], EDGES[1:]
    left = (high**alpha - low**alpha) / alpha * (1 - RATES) ** (beta - 1)
    right = ((1 - low) ** beta - (1 - high) ** beta) / beta * RATES ** (alpha - 1)
    weights: np.ndarray = np.where(RATES < 0.5, left, right)
    return weights / weights.sum()


@dataclass(slots=True)
class Walk:
    """What becomes of a problem of each of the RATES; all arrays are (CLASSES,)."""

    attempts: np.ndarray  # mean number
    squares: np.ndarray  # mean of the square of that number
    correct: np.ndarray  # mean number of correct ones
    decisions: dict[Decision, np.ndarray]  # probability of each

    @property
    def kept(self) -> np.ndarray:
        return self.decisions[Decision.KEEP]


def walk(rule: StopRule) -> Walk:
    """Goes through the states that a rule leaves undecided, from no attempt to the last."""
    attempts, squares, correct = np.zeros((3, CLASSES))
    decisions = {decision: np.zeros(CLASSES) for decision in Decision}
    reached = {0: np.ones(CLASSES)}  # correct so far -> probability of being there
    for finished in range(rule.budget + 1):
        following: dict[int, np.ndarray] = {}
        for count, chance in reached.items():
            decision = rule.decide(count, finished)
            if decision is None:
                following[count + 1] = following.get(count + 1, 0) + chance * RATES
                following[count] = following.get(count, 0) + chance * (1 - RATES)
            else:
                decisions[decision] += chance
                attempts += finished * chance
                squares += finished**2 * chance
                correct += count * chance
        reached = following
    return Walk(attempts, squares, correct, decisions)
