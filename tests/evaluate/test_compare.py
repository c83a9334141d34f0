"""Paired comparison: the test against brute force, the interval's coverage by simulation."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.evaluate.compare import FLIPS, compare, difference, holm, sign_flip


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 30))
def test_with_one_attempt_it_is_mcnemars_exact_test(better, worse, same):
    a = [1] * better + [0] * worse + [1] * (same + 1)
    b = [0] * better + [1] * worse + [1] * (same + 1)
    ones = [1] * len(a)
    found = compare(a, ones, b, ones)
    n, k = better + worse, min(better, worse)
    known = min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)
    assert found.p == pytest.approx(known)
    assert found.difference == pytest.approx((better - worse) / len(a))
    assert (len(found.gained), len(found.lost)) == (better, worse)


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flip_counts_all_signs(steps):
    found = np.array(steps) / 4
    signs = np.array(list(product((-1, 1), repeat=len(steps))))
    known = np.mean(np.abs(signs @ np.abs(steps)) >= abs(sum(steps)))
    assert sign_flip(found, 4) == pytest.approx(known)


def test_sign_flip_of_a_set_too_large_for_the_table():
    rng = np.random.default_rng(0)
    found = rng.integers(-32, 33, 3000) / 32
    small = sign_flip(found[:400], 32)
    assert 0 < small <= 1
    assert 1 / (FLIPS + 1) <= sign_flip(found, 32) <= 1
    assert sign_flip(np.abs(found), 32) == pytest.approx(1 / (FLIPS + 1))


def test_flipped_items_come_largest_first():
    found = compare([4, 0, 2, 1], [4] * 4, [0, 3, 2, 0], [4] * 4)
    assert found.gained == [0, 3] and found.lost == [1]
    assert found.same_score == 0.25
    assert found.difference == pytest.approx((4 - 3 + 1) / 16)


def test_attempts_may_differ_in_number():
    found = compare([2, 8], [2, 8], [1, 4], [4, 4])
    assert found.difference == pytest.approx(0.75 / 2)


def test_the_guard_speaks_of_a_difference_that_means_nothing():
    ones = [1] * 30  # ten points, on thirty items: 8 better, 5 worse
    points = compare([1] * 8 + [0] * 5 + [1] * 17, ones, [0] * 8 + [1] * 5 + [1] * 17, ones)
    assert points.inside_noise and points.difference == pytest.approx(0.1)
    same = compare([1] * 30, [1] * 30, [1] * 30, [1] * 30)
    assert same.inside_noise and same.p == 1 and same.low < 0 < same.high
    clear = compare([1] * 30, [1] * 30, [0] * 20 + [1] * 10, [1] * 30)
    assert not clear.inside_noise and clear.p < 1e-5 and clear.low > 0.4


def test_the_detectable_difference_is_found_four_times_out_of_five():
    rng = np.random.default_rng(2)
    rates = rng.beta(1, 1, (400, 200)) * 0.8

    def once(shift):
        a, b = rng.binomial(4, rates + shift), rng.binomial(4, rates)
        return [compare(x, [4] * 200, y, [4] * 200) for x, y in zip(a, b, strict=True)]

    shift = float(np.mean([found.detectable for found in once(0.0)]))
    assert 0.7 < np.mean([found.low > 0 for found in once(shift)]) < 0.9


def test_other_items_are_refused():
    with pytest.raises(ValueError, match="needs the same items, got 2 and 1"):
        compare([1, 1], [1, 1], [1], [1])


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("items", [30, 100, 500])
@pytest.mark.parametrize("attempts", [1, 4, 32])
def test_intervals_cover_the_true_difference(items, attempts):
    """Models that agree on most items and differ by up to 20 points: 93 to 97 % on the mean.

    Where two models are nearly alike on 30 items, hardly any item differs, and the interval is
    careful: those cases are asked for at least 92 %.
    """
    rng = np.random.default_rng(items * 100 + attempts)
    repeats = 800
    covered = []
    for mean, shift in ((0.1, 0.0), (0.1, 0.05), (0.3, 0.0), (0.3, 0.1), (0.6, 0.2), (0.8, 0.05)):
        for weight in (0.5, 2.0, 10.0):
            shape = (repeats, items)
            base = rng.beta(mean * weight, (1 - mean) * weight, shape)
            other = rng.beta(mean * weight, (1 - mean) * weight, shape)
            better = np.where(rng.random(shape) < 0.3, other, base)
            better = better + (1 - better) * shift / (1 - mean)
            found = (rng.binomial(attempts, better) - rng.binomial(attempts, base)) / attempts
            hit = 0
            for row in found:
                _, low, high = difference(row)
                hit += low <= shift <= high
            covered.append(hit / repeats)
    assert 0.93 <= np.mean(covered) <= 0.97, covered
    assert min(covered) >= 0.92, covered
