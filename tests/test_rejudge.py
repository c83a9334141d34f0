"""A changed gold answer gives new verdicts on old completions; nothing is drawn again."""

from pathlib import Path

import pyarrow as pa

from limo_ray.records import Attempt, Verdict, problem_id
from limo_ray.rejudge import rejudge
from limo_ray.sampler import judge_key
from limo_ray.store import AttemptLog, LogWriter, Store


def write_pool(store: Store, answer: str) -> None:
    row = {"id": problem_id("q"), "answer": answer, "domain": "math", "reason": None}
    schema = pa.schema([(name, pa.string()) for name in row])
    store.write_table("part.parquet", pa.Table.from_pylist([row], schema=schema))


def test_attempts_are_judged_again_under_another_gold_answer(local_ray, tmp_path: Path) -> None:
    pool, log = Store(str(tmp_path / "pool")), AttemptLog(Store(str(tmp_path)), "a" * 16)
    writer = LogWriter(log)
    for index, boxed in enumerate(["4", "5", "4"]):
        writer.append(
            Attempt(problem_id=problem_id("q"), index=index, completion=rf"\boxed{{{boxed}}}",
                    finish_reason="stop", prompt_tokens=1, completion_tokens=1,
                    verdict=Verdict.CORRECT if boxed == "4" else Verdict.WRONG, extracted=boxed,
                    judge=judge_key("4", "math"))
        )  # fmt: skip
    writer.flush()

    write_pool(pool, "4")
    assert rejudge(pool, log) == 0

    write_pool(pool, "5")
    assert rejudge(pool, log) == 3
    known = log.fold().prior(problem_id("q"), judge_key("5", "math"))
    assert known.verdicts == {0: Verdict.WRONG, 1: Verdict.CORRECT, 2: Verdict.WRONG}
    assert known.stale == set()
    assert rejudge(pool, log) == 0
