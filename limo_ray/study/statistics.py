"""What a grid of scores says: intervals that hold training seeds and items, tests, curves. Pure.

    found = contrast([(1.0, chosen), (-1.0, random)])     the difference of two arms, paired by item
    found.value, found.low, found.high, found.p
    found.seeds, found.items, found.attempts              standard errors of each source alone
    found.detectable                                      the smallest effect that it could find

A score of an arm is a mean over training seeds and items. Both are samples: another seed gives
another model, another set of items another score. The variance is that of a two-way layout with
random seeds and random items (Searle, Casella and McCulloch, Variance Components, chapter 4), the
interval Student's t with Satterthwaite's degrees of freedom, because two or three seeds say little
about how much seeds vary. Simulated coverage: tests/study/test_statistics.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit
from scipy.special import stdtr, stdtrit

from limo_ray.evaluate.compare import difference
from limo_ray.evaluate.metrics import interval, t_quantile

POWER = 0.8
DRAWS = 300  # of the bootstrap behind a curve's band


@dataclass(kw_only=True, slots=True)
class Scores:
    """One arm on one benchmark: attempts that solved each item, and all attempts, (seeds, items).

    `trained` is False for the untrained model: no seed made it.
    """

    correct: np.ndarray
    counts: np.ndarray
    trained: bool = True

    @property
    def rates(self) -> np.ndarray:
        return np.asarray(self.correct / self.counts)

    @property
    def seeds(self) -> int:
        return len(self.correct)


@dataclass(kw_only=True, slots=True)
class Estimate:
    """A score or a difference of scores, as shares, with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, of no difference."""
    seeds: float | None
    """Standard error that training seeds alone cause; None where no arm has two of them."""
    items: float
    """Standard error that the choice of items alone causes."""
    attempts: float
    """Standard error that sampling attempts alone causes; with one attempt per item and two seeds
    what neither seed nor item explains."""
    df: float
    """Degrees of freedom of the interval."""
    detectable: float
    """The smallest true effect that is found four times out of five."""


def contrast(arms: Sequence[tuple[float, Scores]]) -> Estimate:
    """A weighted sum of arms on the same items; weights of 1 and -1 give a difference.

    The weights' absolute values must add up to 1 (a score) or 2 (a difference).
    """
    per_item = sum(weight * arm.rates.mean(axis=0) for weight, arm in arms)
    assert isinstance(per_item, np.ndarray)
    size = len(per_item)
    value, low, high = difference(per_item)
    over_items = ((high - low) / 2 / t_quantile(size - 1)) ** 2 if size > 1 else 1.0
    between = within = 0.0
    spread = over_items**2 / max(1, size - 1)
    known = False
    for weight, arm in arms:
        if arm.seeds < 2 or not arm.trained:
            continue
        known = True
        seed_part, rest = _mean_squares(arm.rates)
        share = weight**2 / (arm.seeds * size)
        between += share * seed_part
        within += share * rest
        spread += (share * seed_part) ** 2 / (arm.seeds - 1)
    over_seeds = max(0.0, between - within)
    # not `over_seeds`: what is cut off at zero is too large on average
    variance = max(over_items + between - within, over_items / 2)
    df = max(1.0, max(variance, over_items) ** 2 / spread) if spread else float(size)
    error = float(np.sqrt(variance))
    half = float(stdtrit(df, 0.975)) * error
    attempts = _attempts(arms) if all(arm.counts.min() > 1 for _, arm in arms) else within
    return Estimate(
        value=value, low=max(-1.0, value - half), high=min(1.0, value + half),
        p=float(2 * stdtr(df, -abs(value) / error)) if error else 1.0,
        seeds=float(np.sqrt(over_seeds)) if known else None,
        items=float(np.sqrt(max(0.0, over_items - attempts))), attempts=float(np.sqrt(attempts)),
        df=df, detectable=float(stdtrit(df, 0.975) + stdtrit(df, POWER)) * error,
    )  # fmt: skip


def _mean_squares(rates: np.ndarray) -> tuple[float, float]:
    """Of seeds, and of what neither seed nor item explains, of (seeds, items)."""
    seeds, items = rates.shape
    by_seed = rates.mean(axis=1, keepdims=True)
    rest = rates - by_seed - rates.mean(axis=0, keepdims=True) + rates.mean()
    between = items * float(by_seed.var(ddof=1))
    return between, float((rest**2).sum()) / ((seeds - 1) * max(1, items - 1))


def _attempts(arms: Sequence[tuple[float, Scores]]) -> float:
    """Variance that only sampling attempts anew would give."""
    total = 0.0
    for weight, arm in arms:
        single = arm.rates * (1 - arm.rates) / (arm.counts - 1)
        total += weight**2 * float(single.sum()) / arm.rates.size**2
    return total


def score(arm: Scores) -> Estimate:
    """An arm's score; its interval stays within 0 and 1, and is Wilson's as far as items go."""
    found = contrast([(1.0, arm)])
    rates = arm.rates.mean(axis=0)
    _, low, high = interval(rates, float(arm.counts.sum(axis=0).mean()))
    # the seeds' part of the half interval, added in squares to either side
    _, least, most = difference(rates)
    own = float(np.sqrt(max(0.0, (found.high - found.low) ** 2 - (most - least) ** 2))) / 2
    found.low = max(0.0, found.value - float(np.hypot(found.value - low, own)))
    found.high = min(1.0, found.value + float(np.hypot(high - found.value, own)))
    return found


def planned_effect(
    *, items: int, attempts: int, seeds: int, rate: float, alike: float, item_sd: float,
    seed_sd: float,
) -> float:  # fmt: skip
    """The smallest difference of two arms that such a study finds four times out of five.

    Args:
        rate: score that both arms are near.
        alike: share of the attempts' variance that items explain: 1 if an item is always solved or
            never.
        item_sd: standard deviation over items of the difference of the arms' true rates.
        seed_sd: standard deviation of a model's score over training seeds.
    """
    sampled = 2 * rate * (1 - rate) * (1 - alike) / (attempts * seeds * items)
    over_seeds = 2 * seed_sd**2 / seeds
    variance = sampled + item_sd**2 / items + over_seeds
    spread = (variance - over_seeds) ** 2 / max(1, items - 1)
    if seeds > 1:
        spread += over_seeds**2 / (2 * (seeds - 1))
    df = variance**2 / spread
    return float((stdtrit(df, 0.975) + stdtrit(df, POWER)) * np.sqrt(variance))


@dataclass(kw_only=True, slots=True)
class Curve:
    """score(n) = top - scale * n^-power, with its 95 % band at `sizes`."""

    top: float
    scale: float
    power: float
    sizes: list[float]
    values: list[float]
    low: list[float]
    high: list[float]


def fit_curve(sizes: Sequence[float], arms: Sequence[Scores], points: int = 40) -> Curve | None:
    """A power law with a floor of the error rate, for arms of growing size on the same items.

    The band is a hierarchical bootstrap: items, the same for all sizes, then each arm's seeds.
    None for fewer than four sizes (three parameters would fit anything) or where it does not fit.
    """
    if len(set(sizes)) < 4:
        return None
    n = np.array(sizes, float)
    rates = [arm.rates for arm in arms]
    fitted = _fit(n, np.array([each.mean() for each in rates]))
    if fitted is None:
        return None
    at = np.geomspace(n.min(), n.max(), points)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        items = rng.integers(0, rates[0].shape[1], rates[0].shape[1])
        means = np.array([_resampled(each[:, items], rng) for each in rates])
        if (again := _fit(n, means)) is not None:
            drawn.append(_law(at, *again))
    if len(drawn) < DRAWS / 2:
        return None
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    top, scale, power = fitted
    return Curve(
        top=top, scale=scale, power=power, sizes=at.tolist(), values=_law(at, *fitted).tolist(),
        low=np.clip(low, 0, 1).tolist(), high=np.clip(high, 0, 1).tolist(),
    )  # fmt: skip


def _resampled(rates: np.ndarray, rng: np.random.Generator) -> float:
    """Mean with the seeds drawn anew; widened, for few seeds drawn from themselves vary too little.

    The variance of such a draw is (seeds - 1) / seeds of what it should be.
    """
    by_seed = rates.mean(axis=1)
    seeds = len(by_seed)
    if seeds < 2:
        return float(by_seed[0])
    moved = by_seed[rng.integers(0, seeds, seeds)].mean() - by_seed.mean()
    return float(by_seed.mean() + moved * np.sqrt(seeds / (seeds - 1)))


def _law(n: np.ndarray, top: float, scale: float, power: float) -> np.ndarray:
    return top - scale * n**-power


def _fit(n: np.ndarray, values: np.ndarray) -> tuple[float, float, float] | None:
    start = (min(1.0, float(values.max()) + 0.01), max(1e-3, float(np.ptp(values))), 0.5)
    try:
        found, _ = curve_fit(
            _law, n, values, p0=start, bounds=([0, 0, 0.05], [1, np.inf, 3]), max_nfev=2000
        )
    except RuntimeError:  # no convergence
        return None
    return float(found[0]), float(found[1]), float(found[2])
