"""Which problems a step takes: the expected share of groups with variance, and the floor."""

import numpy as np
import pytest

from limo_ray.core.records import Verdict
from limo_ray.rl.choice import PassRates
from limo_ray.rl.config import ChoiceConfig, RewardConfig
from limo_ray.rl.rewards import reward


def test_carrying_is_the_chance_of_a_mixed_group() -> None:
    ids = ["never", "half", "always", "unknown"]
    known = {"never": (0, 400), "half": (200, 400), "always": (400, 400)}
    rates = PassRates(ids, known, ChoiceConfig(most_known=400))
    never, half, always, unknown = rates.carrying(8)
    assert never < 0.05 and always < 0.05
    assert half == pytest.approx(1 - 2 * 0.5**8, abs=0.01)
    assert 0.05 < unknown < half


def test_carrying_agrees_with_simulated_groups() -> None:
    rates = PassRates(["p"], {"p": (1, 4)}, ChoiceConfig())
    mean = (1 + 1) / (4 + 2)  # of the pool
    rng = np.random.default_rng(0)
    p = rng.beta(1 + 2 * mean, 3 + 2 * (1 - mean), size=200_000)
    correct = rng.binomial(6, p)
    assert rates.carrying(6)[0] == pytest.approx(np.mean((correct > 0) & (correct < 6)), abs=5e-3)


def test_the_floor_reaches_hopeless_problems_and_the_rest_goes_where_variance_is() -> None:
    ids = [str(n) for n in range(100)]
    known = dict.fromkeys(ids[:90], (0, 50)) | dict.fromkeys(ids[90:], (25, 50))
    config = ChoiceConfig(most_known=50, floor=0.1)
    rates = PassRates(ids, known, config)
    first = [rates.queue(8, 1, (0, step))[0] for step in range(2000)]
    hopeful = np.mean(np.array(first) >= 90)
    assert hopeful == pytest.approx(rates.chances(8)[90:].sum(), abs=0.04)
    assert 0.6 < hopeful < 0.91
    uniform = PassRates(ids, known, ChoiceConfig(by="uniform"))
    assert uniform.chances(8)[95] == pytest.approx(0.01)


def test_a_queue_has_each_problem_once_and_depends_on_seed_and_step() -> None:
    rates = PassRates([str(n) for n in range(20)], {}, ChoiceConfig())
    assert sorted(rates.queue(8, 99, (0, 0))) == list(range(20))
    assert rates.queue(8, 5, (0, 1)) == rates.queue(8, 5, (0, 1))
    assert rates.queue(8, 20, (0, 1)) != rates.queue(8, 20, (0, 2))


def test_a_moving_policy_outweighs_what_was_known() -> None:
    rates = PassRates(["p", "q"], {"p": (0, 4)}, ChoiceConfig(memory=0.5))
    before = rates.carrying(8)[0]
    for _ in range(4):
        rates.observe([("p", 4, 8)])
    assert rates.carrying(8)[0] > before
    assert rates.correct[0] / rates.finished[0] == pytest.approx(0.5, abs=0.02)


def test_rewards_by_verdict() -> None:
    config = RewardConfig(format_reward=0.1, loop_reward=-0.5)
    found = {verdict: reward(verdict, config) for verdict in Verdict}
    assert found == {
        Verdict.CORRECT: 1.0, Verdict.WRONG: 0.1, Verdict.UNPARSED: 0.0, Verdict.TRUNCATED: 0.0,
        Verdict.LOOPED: -0.5, Verdict.TIMEOUT: None, Verdict.ERROR: None,
    }  # fmt: skip
