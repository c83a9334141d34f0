"""Which problems a step draws rollouts for: those whose groups will likely have variance. Pure.

A group whose rollouts all have one reward gives no gradient. With pass rate p that happens with
p^n + (1-p)^n for n rollouts, so problems near one half are chosen first. A problem's pass rate is
known as a Beta distribution over what is logged of it; what is old counts less, since the policy
moves. Some choices are uniform, whatever is known: a pass rate that is thought to be 0 is looked at
again.
"""

from collections.abc import Iterable

import numpy as np
from scipy.special import betaln

from limo_ray.rl.config import ChoiceConfig

PRIOR = 2.0  # attempts that the pool's mean stands for, where a problem has none


class PassRates:
    """What is known of each problem's pass rate; arrays are by problem, in the given order."""

    def __init__(
        self, ids: list[str], known: dict[str, tuple[float, float]], config: ChoiceConfig
    ) -> None:
        """`known`: correct and finished attempts by problem id, from before the training."""
        self.config = config
        self.place = {problem_id: place for place, problem_id in enumerate(ids)}
        counts = np.array([known.get(each, (0, 0)) for each in ids], float).reshape(-1, 2)
        # others' attempts say something, not everything: at most as much as one group
        heavy = np.maximum(counts[:, 1] / config.most_known, 1) if config.most_known else np.inf
        self.correct, self.finished = counts[:, 0] / heavy, counts[:, 1] / heavy

    def observe(self, groups: Iterable[tuple[str, int, int]]) -> None:
        """Takes in (problem id, correct, finished) of a step."""
        for problem_id, correct, finished in groups:
            place = self.place[problem_id]
            self.correct[place] = self.config.memory * self.correct[place] + correct
            self.finished[place] = self.config.memory * self.finished[place] + finished

    def carrying(self, size: int) -> np.ndarray:
        """The chance that a group of `size` rollouts has variance: E[1 - p^n - (1-p)^n]."""
        mean = (self.correct.sum() + 1) / (self.finished.sum() + 2)
        a = self.correct + PRIOR * mean
        b = self.finished - self.correct + PRIOR * (1 - mean)
        all_right = np.exp(betaln(a + size, b) - betaln(a, b))
        all_wrong = np.exp(betaln(a, b + size) - betaln(a, b))
        return np.clip(1 - all_right - all_wrong, 0, 1)

    def chances(self, size: int) -> np.ndarray:
        """The chance of each problem to be the next one chosen; they add up to 1."""
        uniform = np.full(len(self.correct), 1 / len(self.correct))
        if self.config.by == "uniform":
            return uniform
        worth = self.carrying(size)
        if not worth.sum():
            return uniform
        return (1 - self.config.floor) * worth / worth.sum() + self.config.floor * uniform

    def queue(self, size: int, count: int, seed: tuple[int, int]) -> list[int]:
        """At most `count` different problems in the order in which they are tried.

        Drawn one by one without putting back (Gumbel's top-k trick, arXiv 1903.06059).
        """
        noise = np.random.default_rng(seed).gumbel(size=len(self.correct))
        order = np.argsort(-(np.log(self.chances(size)) + noise), kind="stable")
        return order[:count].tolist()
