"""Suspicious gold answers: votes, and how many planted wrong answers are found."""

import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.records import SAMPLED, Attempt, Verdict, problem_id
from limo_ray.curate.difficulty import Cutoffs, Sampled
from limo_ray.curate.suspicious import contradict, count_votes, find
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.sampling.passes import Pass
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store
from limo_ray.verify import verify

RULE = StopRule(budget=16, keep_min=1, keep_max=6)


def same(one: str, other: str, domain: str) -> bool:
    return verify(one, f"\\boxed{{{other}}}", domain) is Verdict.CORRECT


def test_equal_answers_vote_together() -> None:
    answers = ["1/2", "0.5", "3", r"\frac{1}{2}", "0.5", "3", "7"]
    assert count_votes(answers, same) == {"0.5": 4, "3": 2, "7": 1}
    assert count_votes([], same) == {}


@pytest.mark.parametrize(
    ("votes", "attempts", "expected"),
    [({}, 4, False), ({"1": 1}, 1, False), ({"1": 1}, 2, False), ({"1": 2}, 4, True),
     ({"1": 2}, 5, False), ({"1": 3, "2": 2}, 6, True)],
)  # fmt: skip
def test_half_of_the_attempts_must_agree(votes: dict, attempts: int, expected: bool) -> None:
    assert contradict(votes, attempts) == expected


def drawn(rng: Random, number: int, accuracy: float) -> list[int]:
    """Answers of a model that gives the truth, which is the number, at this rate."""
    wrong = [number + offset for offset in (-10, -2, -1, 1, 2, 10)]
    return [number if rng.random() < accuracy else rng.choice(wrong) for _ in range(RULE.budget)]


def run_of(store: Store, problems: list[tuple[int, int, list[int]]]) -> Sampled:
    """A run that decided problems, each of a truth, a gold answer and the answers drawn."""
    stage = Stage(name="strong", rule=RULE, sampling=SamplingConfig(), fingerprint="f" * 16)
    writer, rows = LogWriter(AttemptLog(store, stage.fingerprint)), []
    for line, (truth, gold, answers) in enumerate(problems):
        id_, correct, finished = problem_id(f"Which is number {truth}?"), 0, 0
        while (decision := RULE.decide(correct, finished)) is None:
            right = answers[finished] == gold
            writer.append(
                Attempt(
                    problem_id=id_, index=finished, completion="", finish_reason="stop",
                    prompt_tokens=1, completion_tokens=1, extracted=str(answers[finished]),
                    verdict=Verdict.CORRECT if right else Verdict.WRONG, judge="0" * 16,
                )
            )  # fmt: skip
            correct, finished = correct + right, finished + 1
        outcome = {"stage": "strong", "decision": decision, "correct": correct}
        rows.append(
            dict.fromkeys(SAMPLED.names, "")
            | {"id": id_, "domain": "math", "line": line, "order": line, "alive": False}
            | {"outcomes": json.dumps([outcome | {"finished": finished}])}
        )
    writer.flush()
    table = pa.Table.from_pylist(rows, schema=SAMPLED)
    store.write_table("run/decided/part-000000.parquet", table)
    passes = [Pass(engine_name="e", engine=EngineConfig(model="m"), stages=[stage])]
    return Sampled(
        passes=passes, stats={}, seconds=1, engines={}, cutoffs=Cutoffs("", {}), yields=[]
    )


@pytest.mark.process  # hard pairs of answers are compared in a process
@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_planted_wrong_answers_are_found_and_few_others(tmp_path: Path, accuracy: float) -> None:
    rng, store = Random(3), Store(str(tmp_path))
    problems = []
    for number in range(2_000):
        planted = rng.random() < 0.05
        gold = number + 5 if planted else number
        problems.append((number, gold, drawn(rng, number, accuracy)))
    found = {each.line: each for each in find(store.within("run"), run_of(store, problems), store)}
    planted = {line for line, (truth, gold, _) in enumerate(problems) if truth != gold}
    # 5 % of the pool; votes allow it where at least half of the attempts give the truth
    seen = {line for line in planted if 2 * problems[line][2].count(line) >= RULE.budget}
    precision = len(planted & found.keys()) / len(found)
    recall = len(seen & found.keys()) / len(seen)
    print(f"accuracy {accuracy}: precision {precision:.3f}, recall {recall:.3f}, {len(seen)} of "
          f"{len(planted)} planted")  # fmt: skip
    assert len(seen) > 80
    assert precision >= 0.95 and recall >= 0.95
    for line in seen & found.keys():
        assert next(iter(found[line].votes)) == str(line)
