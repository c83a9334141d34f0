"""Intervals hold what they say, differences that are there are found, others are not."""

import sys
from typing import Any

import numpy as np
import pytest

from limo_ray.study.cells import Arm, Comparison
from limo_ray.study.publish import compared
from limo_ray.study.statistics import Scores, contrast, fit_curve, planned_effect, score

ABILITY, OWN = 1.2, 0.3  # spread over items of the logit, shared by the arms and of each arm


def drawn(
    rng: np.random.Generator, effects: list[float], *, seeds: int = 3, items: int = 108,
    attempts: int = 4, seed_sd: float = 0.1,
) -> list[Scores]:  # fmt: skip
    """Arms whose logit at an item is the item's, the effect, the seed's and one of arm and item."""
    item = rng.normal(-0.5, ABILITY, items)
    found = []
    for effect in effects:
        own = rng.normal(effect, seed_sd, (seeds, 1)) + rng.normal(0, OWN, items)
        correct = rng.binomial(attempts, 1 / (1 + np.exp(-(item + own))))
        found.append(Scores(correct=correct, counts=np.full((seeds, items), attempts)))
    return found


def truth(effect: float, seed_sd: float) -> float:
    """The expected score of such an arm, over items and seeds."""
    spread = np.sqrt(ABILITY**2 + OWN**2 + seed_sd**2)
    logits = effect - 0.5 + spread * np.random.default_rng(0).normal(0, 1, 1_000_000)
    return float(np.mean(1 / (1 + np.exp(-logits))))


@pytest.mark.parametrize("seed_sd", [0.0, 0.05, 0.15, 0.4])
@pytest.mark.parametrize(("items", "attempts"), [(30, 1), (108, 4), (500, 1)])
def test_intervals_of_three_seeds_hold_the_truth_in_95_of_100_studies(
    items: int, attempts: int, seed_sd: float
) -> None:
    rng = np.random.default_rng([items, int(100 * seed_sd)])
    studies = 1500
    difference = truth(0.2, seed_sd) - truth(0.0, seed_sd)
    held = 0
    for _ in range(studies):
        a, b = drawn(rng, [0.2, 0.0], items=items, attempts=attempts, seed_sd=seed_sd)
        found = contrast([(1.0, a), (-1.0, b)])
        held += found.low <= difference <= found.high
    # 93 to 97 %, and three standard errors of the simulation's own
    assert 0.93 - 0.017 <= held / studies <= 0.97 + 0.013


def test_scores_of_three_seeds_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    wanted, held = truth(0.0, 0.1), 0
    for _ in range(600):
        (arm,) = drawn(rng, [0.0])
        found = score(arm)
        assert 0 <= found.low <= found.value <= found.high <= 1
        held += found.low <= wanted <= found.high
    assert 0.92 <= held / 600 <= 0.985


def answered(rng: np.random.Generator, effects: list[float]) -> list[dict[str, Any]]:
    """What the named comparisons of a study of three arms say: two against the last."""
    arms = [Arm(settings={"selection": name}, seeds=[0, 1, 2]) for name in ("limo", "s1", "random")]
    scores = {(arm.key, "b"): one
              for arm, one in zip(arms, drawn(rng, effects), strict=True)}  # fmt: skip
    asked = [Comparison(name=arm.settings["selection"], pairs=[(arm, arms[2])])
             for arm in arms[:2]]  # fmt: skip
    return compared(asked, scores, ["b"])


def test_a_planted_difference_is_found_and_none_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    planted = [answered(rng, [0.8, 0.0, 0.0])[0]["clear"] for _ in range(200)]
    nothing = [any(one["clear"] for one in answered(rng, [0.0] * 3)) for _ in range(200)]
    power, false = np.mean(planted), np.mean(nothing)
    sys.stdout.write(f"planted: power {power:.0%}; false finds in {false:.1%} of 200 studies\n")
    assert power >= 0.8
    assert false <= 0.09  # 5 % would give more in 1 of 100 tries


def test_the_smallest_effect_is_found_four_times_out_of_five() -> None:
    """The forecast of a dry run, and what a study says afterwards, against simulated power."""
    rng = np.random.default_rng(4)
    found, said = [], []
    for _ in range(300):
        a, b = drawn(rng, [0.43, 0.0], seed_sd=0.08)
        one = contrast([(1.0, a), (-1.0, b)])
        found.append(one.low > 0)
        said.append(one.detectable)
    effect = truth(0.43, 0.08) - truth(0.0, 0.08)
    assert 0.65 <= np.mean(found) <= 0.97
    assert float(np.median(said)) == pytest.approx(effect, rel=0.35)
    planned = planned_effect(items=108, attempts=4, seeds=3, rate=0.42, alike=0.25, item_sd=0.09,
                             seed_sd=0.016)  # fmt: skip
    assert planned == pytest.approx(float(np.median(said)), rel=0.35)


def test_variance_is_split_into_its_sources() -> None:
    rng = np.random.default_rng(5)
    quiet, loud = (contrast([(1.0, drawn(rng, [0.0], seed_sd=sd, seeds=8)[0])]) for sd in (0, 0.6))
    assert quiet.seeds is not None and loud.seeds is not None
    assert loud.seeds > 3 * quiet.seeds
    few, many = (contrast([(1.0, drawn(rng, [0.0], attempts=n)[0])]) for n in (2, 32))
    assert few.attempts == pytest.approx(4 * many.attempts, rel=0.2)
    (single,) = drawn(rng, [0.0], seeds=1)
    assert contrast([(1.0, single)]).seeds is None


def test_pairing_takes_out_how_hard_items_are() -> None:
    a, b = drawn(np.random.default_rng(6), [0.3, 0.0], seeds=1)
    paired = contrast([(1.0, a), (-1.0, b)])
    alone = contrast([(1.0, a)])
    assert paired.high - paired.low < 1.2 * (alone.high - alone.low)  # not 1.4 times


def test_a_power_law_with_a_floor_is_fitted_with_its_band() -> None:
    rng = np.random.default_rng(7)
    sizes = [50, 100, 200, 400, 800]
    law = [0.6 - 1.5 * n**-0.5 for n in sizes]
    arms = [Scores(correct=rng.binomial(8, p, (3, 400)), counts=np.full((3, 400), 8)) for p in law]
    curve = fit_curve(sizes, arms)
    assert curve is not None
    for n, value, low, high in zip(curve.sizes, curve.values, curve.low, curve.high, strict=True):
        assert abs(value - (0.6 - 1.5 * n**-0.5)) < 0.02
        assert low <= value <= high and high - low < 0.08
    assert fit_curve(sizes[:3], arms[:3]) is None
