"""The stop after N keepers: exact, whatever the order in which problems end."""

from random import Random

import numpy as np
import pytest

from limo_ray.core.records import order
from limo_ray.sampling.target import Target, buckets, extrapolate


@pytest.mark.parametrize("seed", range(5))
def test_the_cutoff_does_not_depend_on_the_order_of_decisions(seed: int) -> None:
    rng = Random(seed)
    orders = [order(0, f"problem {number}") for number in range(500)]
    keepers = {o for o in orders if rng.random() < 0.2}
    expected = sorted(keepers)[29]
    # problems end roughly, not exactly, in their order
    ending = sorted(orders, key=lambda o: o + rng.randrange(2**60))
    target = Target(30, buckets(np.array(orders)))
    decided = []
    for each in ending:
        target.add(each, each in keepers)
        decided.append(each)
        if target.cutoff() is not None:
            break
    assert target.cutoff() == expected
    assert {o for o in orders if o <= expected} <= set(decided), "a problem before it is undecided"
    assert len(decided) < len(orders)


def test_too_few_keepers_have_no_cutoff() -> None:
    orders = [order(0, str(number)) for number in range(20)]
    target = Target(3, buckets(np.array(orders)))
    for number, each in enumerate(orders):
        target.add(each, number < 2)
    assert target.cutoff() is None


def test_the_order_is_a_fair_shuffle_that_the_seed_changes() -> None:
    orders = np.array([order(0, str(number)) for number in range(10_000)])
    assert len(np.unique(orders)) == 10_000
    assert orders.min() >= 0
    assert orders.max() < 2**62
    assert abs(orders.mean() / 2**61 - 1) < 0.03
    assert abs(np.corrcoef(orders, np.arange(10_000))[0, 1]) < 0.03
    assert order(1, "0") != order(0, "0")


def test_extrapolation_covers_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    covered, runs = 0, 400
    for _ in range(runs):
        pool = rng.random(3000) < rng.uniform(0.02, 0.3)
        # the sample ends with its 25th keeper, as the target makes it
        positions = np.flatnonzero(pool)
        if len(positions) < 25:
            covered += 1
            continue
        sampled = int(positions[24]) + 1
        found = extrapolate("all", 3000, sampled, 25, samples=2000)
        covered += found.low <= pool.sum() <= found.high
    assert 0.92 <= covered / runs <= 0.985


def test_a_whole_pool_needs_no_estimate() -> None:
    found = extrapolate("all", 100, 100, 17)
    assert (found.low, found.estimate, found.high) == (17, 17.0, 17)
