"""Scores from verdicts: pass@1, pass@k, majority@k, and how far each of them can be trusted. Pure.

    score = pass_at_1(correct, counts)           correct (items,) of counts (items,) attempts
    score.value, score.low, score.high           mean over items with its 95 % interval

What the interval is about: the items stand for all problems of their kind, and the attempts for
all that the model might write. It covers what another such set of items, sampled anew, would give;
`Score.redraw` is how far the score of these very items moves when only the attempts are sampled
anew. An attempt that was cut off, looped or could not be checked has not solved its item: it
counts in the denominator, and its share stands beside the score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.special import ndtri, stdtrit

Z = float(ndtri(0.975))
PRIOR = 0.2  # see `interval`
SUBSETS = 2_000  # of an item's attempts for majority@k with k < n


@dataclass(kw_only=True, slots=True)
class Score:
    """A mean over items, from 0 to 1. `redraw` is None where each item has one attempt."""

    value: float
    low: float
    high: float
    items: int
    redraw: float | None = None
    """Standard error of sampling the attempts anew, items fixed."""

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def t_quantile(df: int) -> float:
    """The 97.5 % point of Student's t; infinite without a degree of freedom."""
    return float(stdtrit(df, 0.975)) if df > 0 else float("inf")


def interval(values: np.ndarray, grain: float) -> tuple[float, float, float]:
    """Mean of per-item values (items,) in [0, 1] and the 95 % interval of their expectation.

    Wilson's interval with the number of independent draws that the spread of the items stands
    for: m(1-m) over the variance of the mean, between `items` (all attempts at an item end the
    same) and items times `grain` (attempts at an item are as independent as items are; the
    attempts per item). The spread between items holds the sampling of attempts already. Where few
    items differ from the rest it says little, and is moved towards the careful end as if PRIOR
    further items had been all or nothing. Student's t, for the spread is itself an estimate.
    Simulated coverage: tests/evaluate/test_metrics.py.
    """
    items = len(values)
    if items == 0:
        raise ValueError("no items: there is no score")
    mean = float(values.mean())
    if items == 1:
        return mean, 0.0, 1.0
    spread = mean * (1 - mean)
    apart = np.count_nonzero(values > 0 if mean <= 0.5 else values < 1)
    prior = PRIOR / (1 + apart) / items
    share = (float(values.var()) + prior) / (spread + prior)
    draws = items / min(max(share, 1 / grain), 1.0)
    t = t_quantile(items - 1)
    below = 1 + t * t / draws
    centre = (mean + t * t / (2 * draws)) / below
    half = t / below * float(np.sqrt(spread / draws + t * t / (4 * draws * draws)))
    # rounding must not leave the estimate outside of its own interval
    return mean, max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))


def pass_at_1(correct: np.ndarray, counts: np.ndarray) -> Score:
    """Share of attempts that solve their item, every item weighing the same.

    Args:
        correct: (items,) attempts that solved the item.
        counts: (items,) attempts, at least 1 each.
    """
    rates = correct / counts
    mean, low, high = interval(rates, float(counts.mean()))
    redraw = None
    if counts.min() > 1:
        within = rates * (1 - rates) / (counts - 1)  # unbiased for p(1-p)/n
        redraw = float(np.sqrt(within.sum()) / len(rates))
    return Score(value=mean, low=low, high=high, items=len(rates), redraw=redraw)


def pass_at_k(correct: np.ndarray, counts: np.ndarray, k: int) -> Score:
    """Chance that k attempts solve an item at least once, without bias (arXiv 2107.03374).

    1 - C(n - c, k) / C(n, k): the share of all choices of k of the n attempts that hold a correct
    one. Not 1 - (1 - c/n)^k, which is too low. ValueError where an item has fewer than k.
    """
    if k < 1 or counts.min() < k:
        raise ValueError(f"pass@{k}: needs at least {k} attempts per item, has {counts.min()}")
    missed = np.ones(len(correct))
    for step in range(k):
        missed *= np.maximum(counts - correct - step, 0) / (counts - step)
    mean, low, high = interval(1 - missed, float(counts.mean()) / k)
    return Score(value=mean, low=low, high=high, items=len(correct))


def majority_at_k(votes: Sequence[Sequence[str | None]], k: int, seed: int = 0) -> Score:
    """Chance that the commonest answer of k attempts is right.

    Args:
        votes: for each item the answers of its n attempts: RIGHT for one that the verifier
            accepts, the answer's normal form (`normal`) for another, None for an attempt without
            an answer, which has no vote.
        k: attempts that vote. With k < n the mean over subsets of the attempts, chosen with `seed`.

    A tie is shared: it counts as the share of the tied answers that are right. Without a single
    vote the item is not solved.
    """
    rng = np.random.default_rng(seed)
    shares = np.array([_majority(item, k, rng) for item in votes])
    fewest = min(map(len, votes))
    mean, low, high = interval(shares, max(1.0, fewest / k))
    return Score(value=mean, low=low, high=high, items=len(shares))


RIGHT = "\0right"


def _majority(votes: Sequence[str | None], k: int, rng: np.random.Generator) -> float:
    if len(votes) < k:
        raise ValueError(f"majority@{k}: needs at least {k} attempts per item, has {len(votes)}")
    answers = [RIGHT, *sorted({vote for vote in votes if vote is not None} - {RIGHT})]
    codes = np.array([-1 if vote is None else answers.index(vote) for vote in votes])
    if len(codes) == k:
        chosen = codes[None]
    else:
        order = rng.permuted(np.tile(np.arange(len(codes)), (SUBSETS, 1)), axis=1)[:, :k]
        chosen = codes[order]
    counts = np.stack([(chosen == code).sum(axis=1) for code in range(len(answers))], axis=1)
    most = counts.max(axis=1)
    tied = (counts == most[:, None]).sum(axis=1)
    won = (counts[:, 0] == most) & (most > 0)
    return float(np.mean(np.where(won, 1 / tied, 0.0)))


def normal(answer: str) -> str:
    """An answer's form for counting votes: numbers by value, other text without case and space."""
    text = answer.replace("$", "").replace("\\,", "").replace("{,}", ",").strip().rstrip(".")
    number = text.replace(",", "").replace(" ", "")
    try:
        return str(Fraction(number))
    except (ValueError, ZeroDivisionError):
        return "".join(text.split()).casefold()


def runs(solved: Sequence[Sequence[bool]]) -> list[float]:
    """The score of each single run: of every item's first attempts, its second ones, ..."""
    fewest = min(map(len, solved))
    return [float(np.mean([item[index] for item in solved])) for index in range(fewest)]


def by_budget(
    solved: Sequence[bool], tokens: Sequence[int], longest: int, points: int = 24
) -> list[tuple[int, float]]:
    """Score against thinking budget: (tokens, share of attempts that are correct and that long).

    An attempt counts at a budget when it ended within it: what it would have answered when cut
    is not known. Budgets are spaced by equal factors up to `longest`.
    """
    good = np.sort(np.array([n for right, n in zip(solved, tokens, strict=True) if right]))
    start = max(1, min(longest, int(min(tokens, default=1))))
    edges = np.unique(np.geomspace(start, max(start, longest), points).round().astype(int))
    counts = np.searchsorted(good, edges, side="right")
    return [(int(b), float(c / len(solved))) for b, c in zip(edges, counts, strict=True)]
