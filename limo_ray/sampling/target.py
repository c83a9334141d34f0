"""When enough problems are kept: an exact stop for a pool sampled in a seeded random order. Pure.

Nobody needs ten million verdicts to find 2,000 keepers. Problems have a random order (a hash of
seed and id); the kept set is the first N keepers in that order, all problems before them decided.
It does not depend on which problems happened to end first, so it is the same after a crash, and it
is a fair sample, from which the whole pool's yield is estimated.
"""

import bisect
from dataclasses import dataclass

import numpy as np

from limo_ray.core.records import ORDER_BITS

BUCKET_BITS = 16


def buckets(orders: np.ndarray) -> np.ndarray:
    """How many of the orders (n,) fall into each of 65,536 equal ranges."""
    return np.bincount(orders >> (ORDER_BITS - BUCKET_BITS), minlength=1 << BUCKET_BITS)


class Target:
    """Follows the decisions of one group of problems until `wanted` keepers are certain."""

    def __init__(self, wanted: int, pool: np.ndarray) -> None:
        """`pool` counts the group's problems per bucket (see `buckets`)."""
        self.wanted = wanted
        self.left = pool.astype(np.int64)
        self.front = 0  # all buckets before this one are decided
        self.kept: list[int] = []

    def add(self, order: int, kept: bool) -> None:
        """Adds one problem's decision; each problem once."""
        self.left[order >> (ORDER_BITS - BUCKET_BITS)] -= 1
        if kept:
            bisect.insort(self.kept, order)

    def cutoff(self) -> int | None:
        """The order of the last keeper wanted, once all problems before it are decided."""
        if len(self.kept) < self.wanted:
            return None
        while self.front < len(self.left) and self.left[self.front] == 0:
            self.front += 1
        last = self.kept[self.wanted - 1]
        return last if last >> (ORDER_BITS - BUCKET_BITS) < self.front else None


@dataclass(kw_only=True, slots=True)
class Yield:
    """How many problems of a group the rule would keep, if the whole pool were sampled."""

    group: str
    pool: int
    sampled: int
    kept: int
    estimate: float
    low: int
    high: int


def extrapolate(group: str, pool: int, sampled: int, kept: int, samples: int = 20_000) -> Yield:
    """Mean and central 95 % of the whole pool's keepers, given a fair sample of it.

    Beta-binomial prediction with Jeffreys' prior Beta(1/2, 1/2): it covers both what the pass
    rate may be and how the problems not sampled may fall. Exact when all are sampled.
    """
    rng = np.random.default_rng(0)
    rate = rng.beta(kept + 0.5, sampled - kept + 0.5, samples)
    total = kept + rng.binomial(pool - sampled, rate)
    low, high = np.percentile(total, [2.5, 97.5])
    return Yield(
        group=group,
        pool=pool,
        sampled=sampled,
        kept=kept,
        estimate=float(total.mean()),
        low=int(low),
        high=int(high),
    )
