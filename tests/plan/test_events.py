"""The simulated cluster: what it draws, how long it takes, what a lost node costs."""

import math

import numpy as np
import pytest

from limo_ray.plan.assumptions import Speed
from limo_ray.plan.config import SpeedConfig
from limo_ray.plan.events import simulate
from limo_ray.plan.flow import full, kept_share, per_problem
from limo_ray.plan.stop_rule_math import walk
from limo_ray.sampling.stop_rule import StopRule
from tests.plan.models import SLOW, STRONG, curation, one_pass, truth

RULE = StopRule(budget=8, keep_min=1, keep_max=3)


def test_it_draws_what_the_rule_needs() -> None:
    model = one_pass(RULE, replicas=3)
    count = simulate([model], 4000, seed=2).passes[0].stages[0]
    each = per_problem(model)[0]
    assert count.problems == 4000
    assert count.begun == count.attempts, "without speculation nothing is cut off"
    sigma = math.sqrt(each.variance * 4000)
    assert abs(count.attempts - 4000 * each.attempts) < 4 * sigma
    assert count.kept == pytest.approx(4000 * each.kept, rel=0.1)
    assert count.tokens == pytest.approx(4000 * each.tokens, rel=0.05)


def test_the_same_seed_is_the_same_job() -> None:
    models = curation(preemptions_per_hour=0.3, node_start_s=60, speculative_share=0.05)
    one, again, other = (simulate(models, 600, wanted=20, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_single_attempt_takes_its_tokens() -> None:
    """One sequence at a time: nodes, engine, tokens at the speed of one, the next flush."""
    rule = StopRule(budget=1, keep_min=0, keep_max=1, early=False)
    model = one_pass(rule, sequences=8, node_start_s=50, flush_s=3.0)
    found = simulate([model], 1, seed=0)
    tokens = found.passes[0].stages[0].tokens
    takes = 50 + 200 + tokens / SLOW.one
    assert takes <= found.seconds <= takes + 3.001
    assert found.seconds % 3 == pytest.approx(0, abs=1e-6)


def test_a_full_engine_decodes_at_full_speed() -> None:
    model = one_pass(RULE, sequences=32)
    count = simulate([model], 3000, seed=1).passes[0]
    assert count.dry is not None
    up, decoded = count.dry
    assert decoded / up == pytest.approx(full(model), rel=0.01)
    assert full(one_pass(RULE, sequences=64)) == pytest.approx(SLOW.full)


@pytest.mark.parametrize(("one", "most"), [(65, 3000), (10, 11), (100, 6400)])
def test_speed_goes_through_both_points(one: float, most: float) -> None:
    speed = Speed.of(SpeedConfig(one=one, full=most), 64)
    rates = [n / speed.step(n) for n in range(1, 65)]
    assert rates == sorted(rates), "more sequences never cost speed"
    assert rates[0] == pytest.approx(one)
    assert rates[-1] == pytest.approx(most)


def test_together_none_is_faster_than_alone() -> None:
    with pytest.raises(ValueError, match=r"64 sequences .*`one`"):
        Speed.of(SpeedConfig(one=10, full=900), 64)


def test_a_target_ends_the_job_and_is_exact() -> None:
    models = curation()
    whole = simulate(models, 4000, seed=3)
    found = simulate(models, 4000, wanted=30, seed=3, account=True)
    assert found.reached and found.kept == 30
    assert found.sampled < 4000
    assert found.seconds < whole.seconds
    assert found.kept / found.sampled == pytest.approx(math.prod(map(kept_share, models)), rel=0.6)
    for one in found.passes:
        for stage in one.stages:
            assert 0 < stage.within_tokens <= stage.tokens
    unreached = simulate(models, 200, wanted=150, seed=3)
    assert not unreached.reached
    assert unreached.sampled == 200


def test_without_overlap_one_engine_follows_the_other() -> None:
    both = simulate(curation(), 1500, seed=1)
    apart = simulate(curation(), 1500, seed=1, overlap=False)
    assert apart.seconds > both.seconds
    one, other, _ = apart.passes
    assert one.ended < apart.seconds - other.up / 4, "the second began when the first had ended"
    # and a target stops nothing before the last engine
    stopped = simulate(curation(), 1500, wanted=5, seed=1, overlap=False)
    assert stopped.passes[0].stages[0].problems == 1500


def test_speculation_stays_within_its_share() -> None:
    none = simulate([one_pass(RULE)], 300, seed=4).passes[0].stages[0]
    some = simulate([one_pass(RULE, speculative_share=0.05)], 300, seed=4).passes[0].stages[0]
    assert none.speculative == 0
    assert 0 < some.speculative <= 0.05 * some.begun + 1


def test_a_preempted_node_loses_what_it_decodes_and_nothing_else() -> None:
    calm = one_pass(RULE, replicas=4, per_node=2.0, node_start_s=60)
    rough = one_pass(RULE, replicas=4, per_node=2.0, node_start_s=60, preemptions_per_hour=2.0)
    still, found = simulate([calm], 2000, seed=5), simulate([rough], 2000, seed=5)
    count = found.passes[0]
    stage = count.stages[0]
    assert count.preemptions > 0
    # both replicas of a node, each with at most all its slots; what is long goes on elsewhere
    assert 0 < stage.lost + stage.saved <= count.preemptions * 2 * rough.slots
    assert stage.begun == stage.attempts + stage.lost + stage.saved
    assert 0 < count.lost_tokens < stage.lost * rough.partial_tokens
    rough.partial_tokens = math.inf
    anew = simulate([rough], 2000, seed=5).passes[0]
    assert anew.stages[0].saved == 0
    assert anew.lost_tokens > 10 * count.lost_tokens
    assert stage.problems == 2000, "each problem is decided once"
    each = per_problem(rough)[0]
    sigma = math.sqrt(each.variance * 2000)
    assert abs(stage.attempts - 2000 * each.attempts) < 4 * sigma, "what was logged is not redone"
    assert found.seconds > still.seconds
    assert still.passes[0].stages[0].lost == 0


def test_kept_problems_alone_go_on() -> None:
    weak, strong, teacher = simulate(curation(), 2000, seed=6).passes
    assert strong.stages[0].problems == weak.stages[0].kept
    assert teacher.stages[0].problems == strong.stages[0].kept
    assert teacher.stages[0].attempts == 2 * teacher.stages[0].problems


def test_stages_on_one_engine_share_it() -> None:
    weak = StopRule(budget=1, keep_min=0, keep_max=0)
    model = one_pass(weak, name="weak")
    model.stages.append(one_pass(RULE).stages[0])
    model.truths.append(truth(STRONG))
    first, second = simulate([model], 1000, seed=7).passes[0].stages
    assert first.problems == first.attempts == 1000
    assert second.problems == first.kept
    expected = float(walk(RULE).attempts @ np.asarray(model.truths[1].rates))
    assert second.attempts / second.problems == pytest.approx(expected, rel=0.1)
