"""New verdicts for logged completions whose gold answer, verifier or judge has changed since.

A completion costs a GPU, a verdict does not: attempts that were judged under another key
(`judge_key`), or whose checker failed, are judged again and logged again, never drawn again. Where
nothing changed this reads the pool's answers once and does nothing.
"""

import logging

import numpy as np
import pyarrow as pa
import ray

from limo_ray.records import ATTEMPT, Attempt, Verdict
from limo_ray.sampler import judge_key
from limo_ray.store import AttemptLog, LogWriter, Store, scan
from limo_ray.verify import JudgeConfig, Verifier, final_verdict

log = logging.getLogger(__name__)


def rejudge(pool: Store, attempt_log: AttemptLog, judge: JudgeConfig) -> int:
    """Judges the log's stale attempts at the pool's live problems; returns how many there were.

    Args:
        pool: folder of Parquet files with the columns id, answer, domain, reason;
            with a judge also question.
        attempt_log: its parts are read by Ray tasks, which write new ones.
        judge: asked about answers in words, if it is on.
    """
    fold = attempt_log.fold()
    if not len(fold):
        return 0
    known = set(np.unique(fold.high).tolist())
    stale: dict[str, tuple[str, str, str]] = {}
    text = ["question"] if judge.url else []  # nobody else needs it
    for batch in scan(pool, ["id", "answer", "domain", "reason", *text]):
        for row in batch.filter(pa.compute.is_null(batch["reason"])).to_pylist():
            if int(row["id"][:16], 16) not in known:
                continue
            if fold.prior(row["id"], judge_key(row["answer"], row["domain"], judge)).stale:
                asks = judge.rules_on(row["answer"], row["domain"])
                question = row["question"] if asks else ""
                stale[row["id"]] = (row["answer"], row["domain"], question)
    if not stale:
        return 0
    log.info("judging the logged attempts at %d problems again", len(stale))
    task = ray.remote(rejudge_part).options(num_cpus=0.5)
    answers = ray.put(stale)
    parts = attempt_log.store.files(attempt_log.folder)
    return sum(ray.get([task.remote(attempt_log, part, answers, judge) for part in parts]))


def rejudge_part(
    attempt_log: AttemptLog, part: str, answers: dict[str, tuple[str, str, str]], judge: JudgeConfig
) -> int:
    table = attempt_log.store.read_table(f"{attempt_log.folder}/{part}", ATTEMPT.names)
    table = table.filter(pa.compute.is_in(table["problem_id"], pa.array(list(answers))))
    writer = LogWriter(attempt_log)
    with Verifier(judge=judge) as verifier:
        for row in table.to_pylist():
            answer, domain, question = answers[row["problem_id"]]
            key = judge_key(answer, domain, judge)
            if row["judge"] == key and row["verdict"] != Verdict.ERROR:
                continue
            reason = row["finish_reason"]
            judged = verifier.judge(
                answer, row["completion"], domain, complete=reason != "length", question=question
            )
            verdict: Verdict = final_verdict(judged.verdict, reason)
            fresh = {"verdict": verdict, "extracted": judged.extracted, "judge": key}
            writer.append(Attempt(**row | fresh))
    return writer.flush()
