"""A changed gold answer gives new verdicts on old completions; nothing is sampled again."""

from pathlib import Path

import pyarrow as pa
import pytest

from limo_ray import verify
from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.sampling.reverify import reverify
from limo_ray.storage.store import Store
from limo_ray.verify import JudgeConfig, verdict_key


def write_pool(store: Store, answer: str) -> None:
    row = {
        "id": problem_id("q"),
        "question": "q",
        "answer": answer,
        "domain": "math",
        "reason": None,
    }
    schema = pa.schema([(name, pa.string()) for name in row])
    store.write_table("part.parquet", pa.Table.from_pylist([row], schema=schema))


def attempt(index: int, boxed: str, verdict: Verdict) -> Attempt:
    return Attempt(
        problem_id=problem_id("q"), index=index, completion=rf"\boxed{{{boxed}}}",
        finish_reason="stop", prompt_tokens=1, completion_tokens=1, verdict=verdict,
        extracted=boxed, judge=verdict_key("4", "math"),
    )  # fmt: skip


def test_a_checker_that_failed_is_asked_again(local_ray, tmp_path: Path) -> None:
    pool, log = Store(str(tmp_path / "pool")), AttemptLog(Store(str(tmp_path)), "a" * 16)
    write_pool(pool, "4")
    writer = LogWriter(log)
    writer.append(attempt(0, "4", Verdict.ERROR))
    writer.append(attempt(1, "5", Verdict.WRONG))
    writer.flush()
    before = log.read_index().known(problem_id("q"), verdict_key("4", "math"))
    assert before.verdicts == {0: Verdict.ERROR, 1: Verdict.WRONG} and before.stale == {0}
    assert reverify(pool, log, JudgeConfig()) == 1
    after = log.read_index().known(problem_id("q"), verdict_key("4", "math"))
    assert after.verdicts == {0: Verdict.CORRECT, 1: Verdict.WRONG} and after.stale == set()
    first = {a.index: a.verdict for a in log.attempts([problem_id("q")])}
    assert first == {0: Verdict.CORRECT, 1: Verdict.WRONG}


def test_attempts_are_judged_again_under_another_gold_answer(local_ray, tmp_path: Path) -> None:
    pool, log = Store(str(tmp_path / "pool")), AttemptLog(Store(str(tmp_path)), "a" * 16)
    writer = LogWriter(log)
    for index, boxed in enumerate(["4", "5", "4"]):
        verdict = Verdict.CORRECT if boxed == "4" else Verdict.WRONG
        writer.append(attempt(index, boxed, verdict))
    writer.flush()

    write_pool(pool, "4")
    assert reverify(pool, log, JudgeConfig()) == 0

    write_pool(pool, "5")
    assert reverify(pool, log, JudgeConfig()) == 3
    known = log.read_index().known(problem_id("q"), verdict_key("5", "math"))
    assert known.verdicts == {0: Verdict.WRONG, 1: Verdict.CORRECT, 2: Verdict.WRONG}
    assert known.stale == set()
    assert reverify(pool, log, JudgeConfig()) == 0


def test_a_newer_verifier_verifies_old_attempts_again(
    local_ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, log = Store(str(tmp_path / "pool")), AttemptLog(Store(str(tmp_path)), "a" * 16)
    write_pool(pool, "4")
    monkeypatch.setattr(verify, "VERSION", "the one before")
    writer = LogWriter(log)
    writer.append(attempt(0, "4", Verdict.WRONG))  # a mistake of the older verifier
    writer.flush()
    monkeypatch.undo()
    assert reverify(pool, log, JudgeConfig()) == 1
    known = log.read_index().known(problem_id("q"), verdict_key("4", "math"))
    assert known.verdicts == {0: Verdict.CORRECT} and known.stale == set()
    assert reverify(pool, log, JudgeConfig()) == 0
