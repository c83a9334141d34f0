"""What a pilot measured, and how certain that is."""

import json
from pathlib import Path

import numpy as np
import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.attempts.parts import read_table
from limo_ray.core import config
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.plan.assumptions import AssumedStage, MeasuredStage
from limo_ray.plan.config import PlanConfig, StageAssumption
from limo_ray.plan.job import plan
from limo_ray.plan.pilot import outcome_counts, read
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.sampling.stop_rule_math import RATES, beta_weights, walk
from limo_ray.storage.store import Store

ROOT = Path(__file__).parent.parent.parent
RULE = StopRule(budget=16, keep_min=1, keep_max=3)
JUDGE = "0" * 16


def attempt(problem: str, index: int, verdict: Verdict, tokens: int = 10) -> Attempt:
    return Attempt(
        problem_id=problem_id(problem), index=index, completion="x" * tokens, finish_reason="stop",
        prompt_tokens=5, completion_tokens=tokens, verdict=verdict, extracted=None, judge=JUDGE,
    )  # fmt: skip


def outcomes(rng: np.random.Generator, problems: int, alpha: float, beta: float) -> np.ndarray:
    """(problems, 2): correct and finished, sampled one by one until the rule decides."""
    found = []
    for rate in rng.beta(alpha, beta, problems):
        correct = finished = 0
        while RULE.decide(correct, finished) is None:
            correct += rng.random() < rate
            finished += 1
        found.append((correct, finished))
    return np.array(found)


def measured(pairs: np.ndarray) -> MeasuredStage:
    kinds, problems = np.unique(pairs, axis=0, return_counts=True)
    counts = np.column_stack([kinds, problems])
    assumed = AssumedStage(StageAssumption(alpha=1, beta=1), 1000, 3.0, 1.6)
    return MeasuredStage(counts, np.array([100, 200]), np.array([300]), assumed)


def rates(stage: MeasuredStage, trials: int = 20) -> np.ndarray:
    """(CLASSES, trials)"""
    return stage.sample(np.random.default_rng(0), trials).rates


def test_counts_of_a_log(tmp_path: Path) -> None:
    log = AttemptLog(Store(str(tmp_path)), "a" * 16)
    writer = LogWriter(log)
    for one in [
        attempt("one", 0, Verdict.CORRECT), attempt("one", 1, Verdict.WRONG),
        attempt("two", 0, Verdict.TRUNCATED), attempt("two", 1, Verdict.UNPARSED),
        attempt("three", 0, Verdict.CORRECT), attempt("three", 3, Verdict.WRONG),
        attempt("four", 0, Verdict.ERROR), attempt("four", 0, Verdict.CORRECT),  # verified again
    ]:  # fmt: skip
        writer.append(one)
    writer.flush()
    columns = ["problem_id", "index", "verdict"]
    attempts = read_table(log.store, log.folder, columns)
    assert outcome_counts(attempts).tolist() == [[0, 2, 1], [1, 1, 1], [1, 2, 2]]


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.3), (0.5, 0.7), (0.2, 3.0)])
def test_the_fit_finds_what_the_outcomes_were_made_of(alpha: float, beta: float) -> None:
    """However the rule stopped them, and for other rules than theirs too."""
    found = rates(measured(outcomes(np.random.default_rng(0), 4000, alpha, beta))).mean(axis=1)
    true = beta_weights(alpha, beta)
    for rule in (RULE, StopRule(budget=4, keep_min=0, keep_max=0)):
        path = walk(rule)
        assert path.kept @ found == pytest.approx(path.kept @ true, rel=0.1)
        assert path.attempts @ found == pytest.approx(path.attempts @ true, rel=0.03)


def test_many_problems_speak_for_themselves() -> None:
    """Two kinds of problems, which no Beta is: rates of 0.02 and 0.5."""
    rng = np.random.default_rng(1)
    pairs = np.vstack(
        [np.column_stack([rng.binomial(32, p, 2000), np.full(2000, 32)]) for p in (0.02, 0.5)]
    )
    found = rates(measured(pairs)).mean(axis=1)
    between = (RATES > 0.12) & (RATES < 0.3)
    assert found[between].sum() < 0.05
    assert found[RATES < 0.1].sum() == pytest.approx(0.5, abs=0.03)


def test_few_problems_lean_on_the_assumption() -> None:
    means = RATES @ rates(measured(np.array([[0, 1], [1, 1], [0, 1]])), 100)
    assert 0.2 < np.mean(means) < 0.6
    assert np.std(means) > 0.1, "three problems say little"


def test_intervals_hold_the_truth() -> None:
    """Of 60 pilots of 120 problems, 80 % intervals of attempts and of the kept share."""
    path, true = walk(RULE), beta_weights(0.5, 0.7)
    held = {"attempts": 0, "kept": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sampled = measured(outcomes(rng, 120, 0.5, 0.7)).sample(rng, 60).rates
        for name in held:
            values = getattr(path, name) @ sampled
            low, high = np.quantile(values, [0.1, 0.9])
            held[name] += low <= getattr(path, name) @ true <= high
    assert all(40 <= count <= 57 for count in held.values()), held


def plan_config(*argv: str) -> PlanConfig:
    files = [str(ROOT / "conf/curate/laptop.yaml"), str(ROOT / "conf/plan/laptop.yaml")]
    return config.load(PlanConfig, [*files, *argv])


def pilot(tmp_path: Path, attempts: list[Attempt]) -> str:
    """A run that ended, as far as a plan reads it."""
    store = Store(str(tmp_path))
    run = store.within("runs/pilot")
    settings = plan_config()
    prints = {"weak": "a" * 16, "strong": "b" * 16, "SmolLM2-135M-Instruct": "c" * 16}
    run.write_json(
        "manifest.json",
        {
            "fingerprints": prints, "sampling": [], "config": config.as_dict(settings),
            "engines": {}, "counts": {"pool": 90, "input": 100}, "machine": {"cpus": 2},
            "seconds_by_step": {"pool": 9.0, "sampling": 100.0},
        },
    )  # fmt: skip
    writer = LogWriter(AttemptLog(store, prints["strong"]))
    for one in attempts:
        writer.append(one)
    writer.flush()
    return str(tmp_path / "runs/pilot")


def test_what_a_pilot_lacks_is_assumed_and_said(tmp_path: Path) -> None:
    folder = pilot(tmp_path, [attempt(f"p{n}", 0, Verdict.WRONG, 10 * n) for n in range(1, 9)])
    settings = plan_config(f"pilot={folder}")
    stage = AssumedStage(StageAssumption(), 1000, 3.0, 1.6)
    assumed = dict.fromkeys(["weak", "strong", "SmolLM2-135M-Instruct"], stage)
    found = read(settings, "cpu", assumed)
    assert found.stages.keys() == {"strong"}
    assert sorted(found.stages["strong"].other) == [10 * n for n in range(1, 9)]
    assert not found.tokens_per_s
    assert not found.notes


def test_a_pilots_first_engine_gives_its_speed(tmp_path: Path) -> None:
    """Twice as many tokens per second as assumed (385)."""
    folder = pilot(tmp_path, [attempt(f"p{n}", 0, Verdict.WRONG) for n in range(9)])
    file = Path(folder) / "manifest.json"
    sampled = {
        "name": "strong",
        "engine": "smollm2",
        "sampling": {},
        "tokens": {"completion": 7700},
    }
    more = {"engines": {"smollm2": {"replicas": 1, "seconds": 10.0}}, "sampling": [sampled]}
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    found = plan(plan_config(f"pilot={folder}"))
    assert "other settings" in "".join(found.warnings)
    figures = found.figures
    rates = figures["tokens"] / figures["engines"][0]["work_s"]
    assert np.median(rates) == pytest.approx(770, rel=0.05)


def test_a_pilot_that_is_none(tmp_path: Path) -> None:
    empty = pilot(tmp_path, [])
    for folder, words in [(empty, "no attempts"), (str(tmp_path), "not a run directory")]:
        with pytest.raises(ValueError, match=words) as caught:
            read(plan_config(f"pilot={folder}"), "cpu", {})
        assert str(caught.value).startswith("pilot: ")
    assert json.loads((tmp_path / "runs/pilot/manifest.json").read_text())["counts"]
