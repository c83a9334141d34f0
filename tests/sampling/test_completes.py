"""A stage that completes another: it adds attempts at what that one left undecided, and no more."""

import json
from random import Random

from limo_ray.core.records import Problem, Verdict
from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.pending import undecided, update_row
from limo_ray.sampling.progress import Progress
from limo_ray.sampling.scheduler import ProblemTask, Scheduler
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision, StopRule

RULE = StopRule(budget=8, keep_min=1, keep_max=3)
FIRST = Stage(name="strong", rule=RULE, sampling=SamplingConfig(), fingerprint="a", completed=True)
REST = Stage(name="strong completed", rule=RULE, sampling=SamplingConfig(), fingerprint="b",
             completes="strong")  # fmt: skip
PROBLEM = Problem(id="p", question="?", answer="1", source="s")


def sampled(stage: Stage, row: dict, verdicts: list[bool], logged: int = 0) -> int:
    """A sampler's work on a row with an engine that has these attempts; returns how many it made.

    `logged` of them are in the log already.
    """
    scheduler = Scheduler([stage])
    task = ProblemTask(problem=PROBLEM, order=0, undecided=undecided(row))
    if scheduler.first_stage(0, task) is None:
        update_row(row, task, [stage])
        return 0
    spoken = [Verdict.CORRECT if each else Verdict.WRONG for each in verdicts]
    scheduler.admit(task, dict(enumerate(spoken[:logged])))
    made = 0
    while (decision := scheduler.decision(task)) is None:
        chosen = scheduler.next_attempt()
        assert chosen is not None
        if chosen[1] >= len(spoken):
            scheduler.exhaust(*chosen)
        else:
            made += 1
            scheduler.finish(*chosen, spoken[chosen[1]])
    assert not scheduler.advance(task, decision)
    update_row(row, task, [stage])
    return made


def test_both_together_decide_as_the_rule_and_make_no_attempt_too_many() -> None:
    rng, completed = Random(2), 0
    for _ in range(500):
        accuracy = rng.choice((0.05, 0.3, 0.8))
        published = [rng.random() < accuracy for _ in range(rng.randint(0, 8))]
        further = [rng.random() < accuracy for _ in range(8)]
        row = {"outcomes": "[]", "question": "?", "answer": "1", "metadata": "{}", "alive": True}
        sampled(FIRST, row, published)
        was = undecided(row)
        assert row["alive"] or not was
        if not row["alive"]:
            continue
        logged = rng.randint(0, 2)
        made = sampled(REST, row, further, logged)
        [outcome] = json.loads(row["outcomes"])
        assert outcome["stage"] == "strong" and not undecided(row)
        if not was:
            assert made == outcome["completed"] == 0
            continue
        completed += 1
        both = published + further
        spent = next(n for n in range(9) if RULE.decide(sum(both[:n]), n) is not None)
        assert max(spent, len(published) + logged) >= outcome["finished"] >= spent
        assert made == max(0, spent - len(published) - logged)
        assert outcome["completed"] == outcome["finished"] - len(published)
        assert outcome["correct"] == sum(both[: outcome["finished"]])
        assert outcome["decision"] == RULE.decide(outcome["correct"], outcome["finished"])
        assert row["alive"] == (outcome["decision"] == Decision.KEEP)
    assert completed > 100


def test_progress_counts_a_completed_problem_once() -> None:
    progress = Progress(None, [FIRST, REST], total=10)
    nothing = {"verdicts": {}, "priors": {}, "tokens": {}}
    stages = {
        "strong": nothing | {"decisions": {"keep": 2, "drop_hard": 3, "undecided": 4}},
        "strong completed": nothing | {"decisions": {"keep": 1, "drop_easy": 2}},
    }
    progress.workers = {"a": {"stages": stages}}
    assert progress._decided() == (8, 3)
