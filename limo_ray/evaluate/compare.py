"""Two models on the same items: the difference, its interval, a test, and who flipped. Pure.

    found = compare(correct_a, counts_a, correct_b, counts_b)
    found.difference, found.low, found.high       a minus b, per-item rates paired
    found.p                                       exact sign-flip test (McNemar's for one attempt)
    found.inside_noise                            the guard

Pairing is what makes a small set tell anything: how hard an item is drops out of the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from limo_ray.evaluate.metrics import t_quantile

PSEUDO = 1.0  # see `difference`
LARGEST = 100_000_000  # cells of the exact test's table; beyond, signs are sampled
FLIPS = 20_000


@dataclass(kw_only=True, slots=True)
class Comparison:
    """a minus b over the same items; shares from -1 to 1."""

    items: int
    difference: float
    low: float
    high: float
    p: float
    """Chance of a difference this large if the labels a and b meant nothing (two-sided)."""
    gained: list[int]
    """Indices of items that a solves more often than b, the largest gain first."""
    lost: list[int]
    """Indices of items that b solves more often."""
    same_score: float
    """Share of items with the same rate."""

    @property
    def inside_noise(self) -> bool:
        """Whether these items cannot tell the two apart: zero is in the interval, or p > 0.05."""
        return self.low <= 0 <= self.high or self.p > 0.05

    @property
    def detectable(self) -> float:
        """About the smallest true difference that such a comparison finds four times out of five.

        2.8 standard errors: 1.96 for the interval, 0.84 for the power.
        """
        return 2.8 * (self.high - self.low) / 2 / 1.96


def compare(
    correct_a: Sequence[int], counts_a: Sequence[int], correct_b: Sequence[int],
    counts_b: Sequence[int],
) -> Comparison:  # fmt: skip
    """Args: (items,) attempts that solved each item, and all attempts, of either model."""
    a = np.asarray(correct_a) / np.asarray(counts_a)
    b = np.asarray(correct_b) / np.asarray(counts_b)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"a comparison needs the same items, got {len(a)} and {len(b)}")
    found = a - b
    mean, low, high = difference(found)
    order = np.argsort(-np.abs(found), kind="stable")
    grid = lcm(*(int(n) for n in {*map(int, counts_a), *map(int, counts_b)}))
    return Comparison(
        items=len(found), difference=mean, low=low, high=high, p=sign_flip(found, grid),
        gained=[int(i) for i in order if found[i] > 1e-12],
        lost=[int(i) for i in order if found[i] < -1e-12],
        same_score=float(np.mean(np.abs(found) < 1e-12)),
    )  # fmt: skip


def difference(found: np.ndarray) -> tuple[float, float, float]:
    """Mean of per-item differences (items,) in [-1, 1] with its 95 % interval.

    Student's t on the items, with PSEUDO / (1 + items that differ) pairs added to the spread, half
    of them +1 and half -1 (Agresti and Min's idea): without them a set in which no item differs
    would have an interval of no width. Simulated coverage: tests/evaluate/test_compare.py.
    """
    items = len(found)
    mean = float(found.mean())
    if items == 1:
        return mean, -1.0, 1.0
    added = PSEUDO / (1 + np.count_nonzero(found))
    spread = (float((found**2).sum()) + 2 * added) / (items + 2 * added) - mean * mean
    half = t_quantile(items - 1) * float(np.sqrt(max(spread, 0.0) / (items + 2 * added - 1)))
    return mean, max(-1.0, mean - half), min(1.0, mean + half)


def sign_flip(found: np.ndarray, grid: int) -> float:
    """Two-sided p of the mean of paired differences, all 2^items signs being as likely.

    Exact by adding up the items one by one, differences counted in 1/`grid`; with one attempt per
    item this is McNemar's exact test. Sets too large for the table get FLIPS random sign vectors,
    and the p of a test that counts the data among them.
    """
    steps = np.rint(np.abs(found) * grid).astype(np.int64)
    steps = steps[steps > 0]
    if not len(steps):
        return 1.0
    total = abs(int(np.rint(found.sum() * grid)))
    reach = int(steps.sum())
    if (2 * reach + 1) * len(steps) > LARGEST:
        rng = np.random.default_rng(0)
        hits = 0
        for _ in range(FLIPS // 1000):
            signs = rng.choice(np.array([-1, 1]), size=(1000, len(steps)))
            hits += int(np.count_nonzero(np.abs(signs @ steps) >= total))
        return (hits + 1) / (FLIPS + 1)
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for step in steps:
        moved = np.zeros_like(chance)
        moved[step:] += chance[:-step] / 2
        moved[:-step] += chance[step:] / 2
        chance = moved
    sums = np.arange(-reach, reach + 1)
    return float(min(1.0, chance[np.abs(sums) >= total].sum()))


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of several comparisons, raised so that one false find among all stays rare."""
    raised = [1.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, ps[index] * (len(ps) - rank)))
        raised[index] = highest
    return raised
