"""What verdicts say of a run: which attempts were cut off, when not to trust the checker."""

from collections import Counter

from limo_ray.core.errors import VerificationError
from limo_ray.core.records import Verdict


def final_verdict(verdict: Verdict, finish_reason: str) -> Verdict:
    """The verdict with what the engine knows of why the completion ended.

    No answer in a completion that ran into the token limit is TRUNCATED; an answer that is not
    right in one that was stopped for repeating itself is LOOPED.
    """
    if finish_reason == "length" and verdict is Verdict.UNPARSED:
        return Verdict.TRUNCATED
    if finish_reason == "loop" and verdict is not Verdict.CORRECT:
        return Verdict.LOOPED
    return verdict


class Health:
    """Counts verdicts and raises when too large a share of them is TIMEOUT or ERROR.

    >>> health = Health(max_error_share=0.02, min_count=200)
    >>> health.add(Verdict.CORRECT)

    `add` raises VerificationError as soon as at least `min_count` verdicts were counted and more
    than `max_error_share` of them failed. Not thread-safe: one owner counts.
    """

    def __init__(self, max_error_share: float = 0.02, min_count: int = 200) -> None:
        if not 0 <= max_error_share <= 1:
            raise ValueError(f"max_error_share must be between 0 and 1, got {max_error_share}")
        self.max_error_share = max_error_share
        self.min_count = max(1, min_count)
        self.counts: Counter[Verdict] = Counter()

    def add(self, verdict: Verdict, count: int = 1) -> None:
        """Count a verdict; raise VerificationError when the share of failures is too large."""
        self.counts[Verdict(verdict)] += count
        if verdict in (Verdict.TIMEOUT, Verdict.ERROR):
            self.check()

    def check(self) -> None:
        """Raise VerificationError when the share of failures is too large."""
        total = self.counts.total()
        failed = self.counts[Verdict.TIMEOUT] + self.counts[Verdict.ERROR]
        if total >= self.min_count and failed > self.max_error_share * total:
            raise VerificationError(
                f"the verifier failed on {failed} of {total} attempts "
                f"({self.counts[Verdict.TIMEOUT]} timeouts, {self.counts[Verdict.ERROR]} errors): "
                f"more than max_error_share={self.max_error_share:g}. No selection is made on such "
                "verdicts; look at the gold answers and at the verifier's time limit."
            )
