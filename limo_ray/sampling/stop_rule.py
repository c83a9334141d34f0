"""When to stop making attempts at a problem. Pure, no Ray.

`StopRule` decides problems as early as logic allows and says how many attempts may be in flight
without any being unneeded; `Scheduler` spends an engine's slots accordingly over many problems and
stages. `limo_ray.sampling.sampler` puts an engine, a verifier and the attempt log around it.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from limo_ray.core.checks import check_at_least, check_between


class Decision(StrEnum):
    KEEP = "keep"
    DROP_EASY = "drop_easy"
    DROP_HARD = "drop_hard"
    UNDECIDED = "undecided"
    """The engine has no further attempt at the problem. Not kept."""


@dataclass(kw_only=True, slots=True, unsafe_hash=True)
class StopRule:
    """Keep a problem when keep_min <= correct <= keep_max after `budget` attempts.

    Stage 1 of the paper is StopRule(budget=4, keep_min=0, keep_max=0), stage 2 is
    StopRule(budget=32, keep_min=1, keep_max=3) (arXiv 2502.03387v3, section 3.1).
    """

    budget: int = 32
    """Attempts at a problem, at the most."""
    keep_min: int = 1
    """Fewest correct attempts of a problem that is kept; 0 keeps the unsolved ones too."""
    keep_max: int = 3
    """Most correct attempts of a problem that is kept."""
    early: bool = True
    """Stop as soon as the outcome is certain; false spends the whole budget (evaluation)."""

    def check(self) -> None:
        check_between("budget", self.budget, 1, 4096)
        if self.keep_min > self.keep_max:
            raise ValueError(f"keep_min: {self.keep_min} is larger than keep_max ({self.keep_max})")
        check_at_least("keep_min", self.keep_min, 0)
        if self.keep_max > self.budget:
            raise ValueError(f"keep_max: {self.keep_max} is larger than budget ({self.budget})")

    def decide(self, correct: int, finished: int) -> Decision | None:
        """The decision that no remaining outcome can change, or None while one could."""
        remaining = self.budget - finished
        if remaining > 0 and not self.early:
            return None
        if correct > self.keep_max:
            return Decision.DROP_EASY
        if correct + remaining < self.keep_min:
            return Decision.DROP_HARD
        if correct >= self.keep_min and correct + remaining <= self.keep_max:
            return Decision.KEEP
        return None

    def needed(self, correct: int, finished: int) -> int:
        """The fewest further outcomes after which a decision is possible; 0 when it is made."""
        return _needed(self)[finished][correct]

    def room(self, correct: int, finished: int, in_flight: int) -> int:
        """How many more attempts may start now without any of them possibly being unneeded.

        Every attempt in flight is then one that one-by-one sampling would have made too, in
        whatever order they end: no decision is possible before all of them have ended.
        """
        return max(0, self.needed(correct, finished) - in_flight)


@lru_cache(maxsize=64)
def _needed(rule: StopRule) -> list[list[int]]:
    """table[finished][correct]: one more than the nearer of the two next states, 0 if decided."""
    table = [[0] * (finished + 1) for finished in range(rule.budget + 1)]
    for finished in range(rule.budget - 1, -1, -1):
        after = table[finished + 1]
        for correct in range(finished + 1):
            if rule.decide(correct, finished) is None:
                table[finished][correct] = 1 + min(after[correct], after[correct + 1])
    return table
