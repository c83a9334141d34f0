"""New verdicts for logged completions whose gold answer, or whose verifier, has changed since.

A completion costs a GPU, a verdict does not: attempts that were judged under another key
(`judge_key`) are judged again and logged again, never drawn again. Where nothing changed this
reads the pool's answers once and does nothing.
"""

import logging

import numpy as np
import pyarrow as pa
import ray

from limo_ray.records import ATTEMPT, Attempt, Verdict
from limo_ray.sampler import judge_key
from limo_ray.store import AttemptLog, LogWriter, Store, scan
from limo_ray.verify import Verifier, final_verdict

log = logging.getLogger(__name__)


def rejudge(pool: Store, attempt_log: AttemptLog) -> int:
    """Judges the log's stale attempts at the pool's live problems; returns how many there were.

    Args:
        pool: folder of Parquet files with the columns id, answer, domain, reason.
        attempt_log: its parts are read by Ray tasks, which write new ones.
    """
    fold = attempt_log.fold()
    if not len(fold):
        return 0
    known = set(np.unique(fold.high).tolist())
    stale: dict[str, tuple[str, str]] = {}
    for batch in scan(pool, ["id", "answer", "domain", "reason"]):
        for row in batch.filter(pa.compute.is_null(batch["reason"])).to_pylist():
            if int(row["id"][:16], 16) not in known:
                continue
            if fold.prior(row["id"], judge_key(row["answer"], row["domain"])).stale:
                stale[row["id"]] = (row["answer"], row["domain"])
    if not stale:
        return 0
    log.info("judging the logged attempts at %d problems again", len(stale))
    task = ray.remote(_rejudge_part).options(num_cpus=0.5)
    answers = ray.put(stale)
    parts = attempt_log.store.files(attempt_log.folder)
    return sum(ray.get([task.remote(attempt_log, part, answers) for part in parts]))


def _rejudge_part(attempt_log: AttemptLog, part: str, answers: dict[str, tuple[str, str]]) -> int:
    table = attempt_log.store.read_table(f"{attempt_log.folder}/{part}", ATTEMPT.names)
    table = table.filter(pa.compute.is_in(table["problem_id"], pa.array(list(answers))))
    writer = LogWriter(attempt_log)
    with Verifier() as verifier:
        for row in table.to_pylist():
            answer, domain = answers[row["problem_id"]]
            key = judge_key(answer, domain)
            if row["judge"] == key:
                continue
            reason = row["finish_reason"]
            judged = verifier.judge(answer, row["completion"], domain, complete=reason != "length")
            verdict: Verdict = final_verdict(judged.verdict, reason)
            fresh = {"verdict": verdict, "extracted": judged.extracted, "judge": key}
            writer.append(Attempt(**row | fresh))
    return writer.flush()
