"""What a rule does to a pass rate, against going through every outcome there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.sampling.stop_rule import Decision, StopRule
from limo_ray.sampling.stop_rule_math import EDGES, RATES, beta_weights, walk


def by_hand(rule: StopRule, rate: float) -> dict[str, float]:
    """Sums over all 2^budget outcomes."""
    found = dict.fromkeys(["attempts", "correct", "kept"], 0.0)
    for outcomes in itertools.product([0, 1], repeat=rule.budget):
        chance = float(np.prod([rate if one else 1 - rate for one in outcomes]))
        n = next(n for n in range(rule.budget + 1) if rule.decide(sum(outcomes[:n]), n))
        found["attempts"] += n * chance
        found["correct"] += sum(outcomes[:n]) * chance
        found["kept"] += chance * (rule.decide(sum(outcomes[:n]), n) is Decision.KEEP)
    return found


@st.composite
def rules(draw: st.DrawFn) -> StopRule:
    budget = draw(st.integers(1, 7))
    low = draw(st.integers(0, budget))
    high = draw(st.integers(low, budget))
    return StopRule(budget=budget, keep_min=low, keep_max=high, early=draw(st.booleans()))


@given(rules(), st.integers(0, len(RATES) - 1))
@settings(max_examples=60, deadline=None)
def test_walk_is_the_sum_over_all_outcomes(rule: StopRule, place: int) -> None:
    found, wanted = walk(rule), by_hand(rule, float(RATES[place]))
    assert found.attempts[place] == pytest.approx(wanted["attempts"])
    assert found.correct[place] == pytest.approx(wanted["correct"])
    assert found.kept[place] == pytest.approx(wanted["kept"], abs=1e-12)


def test_a_rule_that_keeps_everything_needs_no_attempt() -> None:
    found = walk(StopRule(budget=4, keep_min=0, keep_max=4))
    assert not found.attempts.any()
    assert (found.kept == 1).all()


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.3), (0.1, 2.0), (1, 1), (3, 0.2), (5, 40)])
def test_beta_weights_have_the_moments_of_beta(alpha: float, beta: float) -> None:
    weights = beta_weights(alpha, beta)
    mean = alpha / (alpha + beta)
    variance = mean * (1 - mean) / (alpha + beta + 1)
    assert weights.sum() == pytest.approx(1)
    assert weights @ RATES == pytest.approx(mean, abs=2e-3)
    assert weights @ (RATES - mean) ** 2 == pytest.approx(variance, rel=0.02)
    assert ((EDGES[:-1] < RATES) & (EDGES[1:] > RATES)).all()
