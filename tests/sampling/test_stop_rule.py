"""StopRule and Scheduler against brute force and against one-by-one sampling."""

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.core.records import Problem, Verdict
from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.scheduler import ProblemTask, Scheduler
from limo_ray.sampling.stages import Stage, sampling_fingerprint
from limo_ray.sampling.stop_rule import Decision, StopRule

RULES = [
    StopRule(budget=budget, keep_min=low, keep_max=high)
    for budget in range(1, 7)
    for low in range(budget + 1)
    for high in range(low, budget + 1)
]


def full_budget(rule: StopRule, outcomes: tuple[bool, ...]) -> Decision:
    correct = sum(outcomes)
    if correct > rule.keep_max:
        return Decision.DROP_EASY
    return Decision.KEEP if correct >= rule.keep_min else Decision.DROP_HARD


def one_by_one(rule: StopRule, outcomes: tuple[bool, ...]) -> int:
    """Attempts that sampling in order needs until the decision."""
    for finished in range(rule.budget + 1):
        if rule.decide(sum(outcomes[:finished]), finished) is not None:
            return finished
    raise AssertionError("a full budget always decides")


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_decide_is_exact_and_as_early_as_logic_allows(rule: StopRule) -> None:
    for finished in range(rule.budget + 1):
        for prefix in itertools.product([False, True], repeat=finished):
            endings = {
                full_budget(rule, prefix + rest)
                for rest in itertools.product([False, True], repeat=rule.budget - finished)
            }
            expected = endings.pop() if len(endings) == 1 else None
            assert rule.decide(sum(prefix), finished) == expected


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_needed_is_the_shortest_way_to_a_decision(rule: StopRule) -> None:
    for finished in range(rule.budget + 1):
        for correct in range(finished + 1):
            shortest = next(
                steps
                for steps in range(rule.budget - finished + 1)
                if any(
                    rule.decide(correct + won, finished + steps) is not None
                    for won in range(steps + 1)
                )
            )
            assert rule.needed(correct, finished) == shortest


def simulate(
    rule: StopRule, pool: list[tuple[bool, ...]], slots: int, rng: Random, share: float = 0.0
) -> tuple[list[Decision], Scheduler]:
    """Runs the scheduler over fixed outcomes by (problem, index); attempts end in random order.

    A problem with fewer outcomes than the budget has no further attempt.
    """
    stage = Stage(name="s", rule=rule, sampling=SamplingConfig(), fingerprint="")
    scheduler = Scheduler([stage], speculative_share=share)
    tasks = []
    for number in range(len(pool)):
        problem = Problem(id=str(number), question="", answer="", source="")
        tasks.append(ProblemTask(problem=problem, order=number))
        scheduler.admit(tasks[-1], {})
    running: list[tuple[ProblemTask, int]] = []
    decided: dict[str, Decision] = {}

    def decide(task: ProblemTask) -> None:
        if (decision := scheduler.decision(task)) is not None:
            decided[task.problem.id] = decision
            running[:] = [(t, d) for t, d in running if t is not task]  # aborted
            assert not scheduler.advance(task, decision)

    for task in tasks:
        decide(task)
    while len(decided) < len(pool):
        while len(running) < slots and (chosen := scheduler.next_attempt(idle=share > 0)):
            running.append(chosen)
        task, index = running.pop(rng.randrange(len(running)))
        outcomes = pool[int(task.problem.id)]
        if index < len(outcomes):
            verdict = Verdict.CORRECT if outcomes[index] else Verdict.WRONG
            scheduler.finish(task, index, verdict)
        else:
            scheduler.exhaust(task, index)
        decide(task)
    return [decided[str(number)] for number in range(len(pool))], scheduler


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.budget <= 4], ids=str)
def test_every_outcome_in_every_completion_order(rule: StopRule) -> None:
    """All outcomes; random completion orders stand for all, many of each."""
    for outcomes in itertools.product([False, True], repeat=rule.budget):
        for seed in range(8):
            decisions, scheduler = simulate(rule, [outcomes], slots=rule.budget, rng=Random(seed))
            assert decisions == [full_budget(rule, outcomes)]
            assert scheduler.counts[0].needed == one_by_one(rule, outcomes)


def every_completion_order(rule: StopRule, outcomes: tuple[bool, ...]) -> None:
    """Walks the whole tree of completion orders, starting as many attempts as `room` allows."""

    def walk(done: frozenset[int], running: frozenset[int], started: int) -> None:
        correct = sum(outcomes[index] for index in done)
        decision = rule.decide(correct, len(done))
        if decision is not None:
            assert decision == full_budget(rule, outcomes)
            assert not running, "an attempt in flight was not needed"
            assert started == one_by_one(rule, outcomes)
            return
        room = rule.room(correct, len(done), len(running))
        running = running | set(range(started, started + room))
        started += room
        assert running, "undecided, and nothing in flight"
        for index in running:
            walk(done | {index}, running - {index}, started)

    walk(frozenset(), frozenset(), 0)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.budget <= 5], ids=str)
def test_no_attempt_is_needless_in_any_completion_order(rule: StopRule) -> None:
    for outcomes in itertools.product([False, True], repeat=rule.budget):
        every_completion_order(rule, outcomes)


@st.composite
def cases(draw: st.DrawFn) -> tuple[StopRule, list[tuple[bool, ...]], int, int]:
    budget = draw(st.integers(1, 64))
    low = draw(st.integers(0, budget))
    high = draw(st.integers(low, budget))
    rule = StopRule(budget=budget, keep_min=low, keep_max=high)
    problem = st.lists(st.booleans(), min_size=budget, max_size=budget).map(tuple)
    pool = draw(st.lists(problem, min_size=1, max_size=6))
    return rule, pool, draw(st.integers(1, 80)), draw(st.integers(0, 1000))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_kept_sets_are_identical_and_nothing_is_needless(case) -> None:
    rule, pool, slots, seed = case
    decisions, scheduler = simulate(rule, pool, slots, Random(seed))
    assert decisions == [full_budget(rule, outcomes) for outcomes in pool]
    assert scheduler.counts[0].needed == sum(one_by_one(rule, outcomes) for outcomes in pool)
    assert scheduler.counts[0].speculative == 0


@settings(max_examples=100, deadline=None)
@given(cases())
def test_speculation_changes_no_decision_and_keeps_its_share(case) -> None:
    rule, pool, slots, seed = case
    decisions, scheduler = simulate(rule, pool, slots, Random(seed), share=0.2)
    assert decisions == [full_budget(rule, outcomes) for outcomes in pool]
    counts = scheduler.counts[0]
    assert counts.speculative <= 0.2 * (counts.needed + counts.speculative) + 1


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.budget <= 4], ids=str)
def test_too_few_attempts_decide_only_what_no_further_outcome_changes(rule: StopRule) -> None:
    for outcomes in itertools.chain.from_iterable(
        itertools.product([False, True], repeat=there) for there in range(rule.budget)
    ):
        expected = rule.decide(sum(outcomes), len(outcomes)) or Decision.UNDECIDED
        for seed, share in itertools.product(range(4), (0.0, 0.9)):
            decisions, scheduler = simulate(rule, [outcomes], rule.budget, Random(seed), share)
            assert decisions == [expected]
            if expected is Decision.UNDECIDED:  # those that there are all counted
                counts = scheduler.counts[0]
                assert counts.needed + counts.speculative == len(outcomes)


def test_an_attempt_given_back_is_made_although_another_one_is_missing() -> None:
    rule = StopRule(budget=3, keep_min=3, keep_max=3, early=False)
    stage = Stage(name="s", rule=rule, sampling=SamplingConfig(), fingerprint="")
    scheduler = Scheduler([stage])
    task = ProblemTask(problem=Problem(id="p", question="", answer="", source=""), order=0)
    scheduler.admit(task, {})
    assert [scheduler.next_attempt() for _ in range(3)] == [(task, 0), (task, 1), (task, 2)]
    scheduler.exhaust(task, 2)
    assert scheduler.decision(task) is None, "two attempts are in flight"
    scheduler.finish(task, 0, Verdict.CORRECT)
    scheduler.give_back(task, 1)
    assert scheduler.next_attempt() == (task, 1)


def test_a_u_shaped_pool_costs_a_third_of_the_budget() -> None:
    rng = Random(0)
    rule = StopRule(budget=32, keep_min=1, keep_max=3)
    pool = []
    for _ in range(2000):
        rate = rng.betavariate(0.6, 0.3)
        pool.append(tuple(rng.random() < rate for _ in range(32)))
    decisions, scheduler = simulate(rule, pool, slots=256, rng=rng)
    assert decisions == [full_budget(rule, outcomes) for outcomes in pool]
    assert len(pool) * 32 / scheduler.counts[0].needed > 3


def test_a_rule_that_never_decides_early_spends_the_budget() -> None:
    rule = StopRule(budget=5, keep_min=0, keep_max=5, early=False)
    assert [rule.decide(0, finished) for finished in range(5)] == [None] * 5
    assert rule.decide(5, 5) == Decision.KEEP
    assert rule.room(0, 0, 0) == 5


def test_attempts_known_from_the_log_are_not_made_again() -> None:
    stage = Stage(name="s", rule=StopRule(budget=4, keep_min=1, keep_max=1),
                  sampling=SamplingConfig(), fingerprint="")  # fmt: skip
    scheduler = Scheduler([stage])
    task = ProblemTask(problem=Problem(id="p", question="", answer="", source=""), order=0)
    scheduler.admit(task, {1: Verdict.WRONG, 3: Verdict.CORRECT, 9: Verdict.CORRECT})
    assert (task.correct, task.finished) == (1, 2)  # attempt 9 is past the budget
    assert scheduler.next_attempt() == (task, 0)
    assert scheduler.next_attempt() is None, "one more correct outcome decides: room is 1"


def test_a_failed_attempt_is_offered_again() -> None:
    stage = Stage(name="s", rule=StopRule(budget=1, keep_min=1, keep_max=1),
                  sampling=SamplingConfig(), fingerprint="")  # fmt: skip
    scheduler = Scheduler([stage])
    task = ProblemTask(problem=Problem(id="p", question="", answer="", source=""), order=0)
    scheduler.admit(task, {})
    assert scheduler.next_attempt() == (task, 0)
    scheduler.give_back(task, 0)
    assert scheduler.next_attempt() == (task, 0)
    assert (scheduler.counts[0].needed, scheduler.counts[0].aborted) == (1, 1)


def test_stages_follow_each_other() -> None:
    weak = Stage(name="weak", rule=StopRule(budget=1, keep_min=0, keep_max=0),
                 sampling=SamplingConfig(), fingerprint="")  # fmt: skip
    strong = Stage(name="strong", rule=StopRule(budget=2, keep_min=1, keep_max=1),
                   sampling=SamplingConfig(), fingerprint="")  # fmt: skip
    scheduler = Scheduler([weak, strong])
    task = ProblemTask(problem=Problem(id="p", question="", answer="", source=""), order=0)
    scheduler.admit(task, {})
    scheduler.finish(*scheduler.next_attempt(), Verdict.WRONG)
    assert scheduler.advance(task, scheduler.decision(task))
    scheduler.admit(task, {})
    for verdict in (Verdict.CORRECT, Verdict.WRONG):
        scheduler.finish(*scheduler.next_attempt(), verdict)
    assert not scheduler.advance(task, scheduler.decision(task))
    assert [(o.stage, o.decision, o.correct, o.finished) for o in task.outcomes] == [
        ("weak", Decision.KEEP, 0, 1),
        ("strong", Decision.KEEP, 1, 2),
    ]


def test_fingerprint_follows_the_distribution_and_nothing_else() -> None:
    def of(**changes: object) -> str:
        sampling = SamplingConfig(**{"temperature": 0.6, "max_tokens": 100} | changes)
        return sampling_fingerprint("model", "system", "bfloat16", 200, sampling)

    assert of() == of()
    assert len({of(), of(temperature=0.7), of(top_p=0.9), of(top_k=5), of(max_tokens=99),
                of(stop=["x"]), of(loop_count=8)}) == 7  # fmt: skip
    assert of(loop_pattern=3) == of(), "the pattern's size means nothing while loops go on"
    assert of(temperature=0, top_p=0.5) == of(temperature=0), "greedy ignores the nucleus"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"budget": 0}, "budget"),
        ({"keep_min": 4, "keep_max": 3}, "keep_min"),
        ({"keep_min": -1}, "keep_min"),
        ({"budget": 2, "keep_max": 3}, "keep_max"),
    ],
)
def test_impossible_rules_are_refused(values: dict[str, int], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        StopRule(**values).check()
