"""New verdicts for logged completions whose gold answer, verifier or judge has changed since.

A completion costs a GPU, a verdict does not: attempts that were verified under another key
(`verdict_key`), or whose verifier failed, are verified and logged again, never sampled again. Where
nothing changed this reads the pool's answers once and does nothing.
"""

import logging
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from limo_ray.attempts.index import AttemptIndex, hex_to_uint64
from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.attempts.parts import Broken, Gone, Part, read, visit
from limo_ray.core.records import ATTEMPT, Attempt, Verdict
from limo_ray.storage.store import Store, scan
from limo_ray.verify import CodeConfig, JudgeConfig, Verifier, final_verdict, verdict_key

log = logging.getLogger(__name__)

Answers = dict[str, tuple[str, str, str]]  # by problem id: gold answer, domain, question


def reverify(
    pool: Store,
    attempt_log: AttemptLog,
    judge: JudgeConfig,
    index: AttemptIndex | None = None,
    code: CodeConfig | None = None,
) -> int:
    """Verifies the log's stale attempts at the pool's live problems; returns how many there were.

    Args:
        pool: folder of Parquet files with the columns id, answer, domain, reason;
            and, with a judge, question.
        attempt_log: its parts are read by Ray tasks, which write new ones.
        judge: asked about answers in words, if it is on.
        index: of the log, if the caller has it already.
        code: the sandbox of programs.
    """
    index = attempt_log.read_index() if index is None else index
    if not len(index):
        return 0
    stale: Answers = {}
    text = ["question"] if judge.url else []  # nobody else needs it
    for batch in scan(pool, ["id", "answer", "domain", "reason", *text]):
        stale |= _stale(batch.filter(pa.compute.is_null(batch["reason"])), index, judge)
    if not stale:
        return 0
    log.info("verifying the logged attempts at %d problems again", len(stale))
    remote = ray.remote(reverify_part).options(num_cpus=0.5)
    answers = ray.put(stale)

    def in_tasks(names: list[str]) -> list[Part[int] | Gone | Broken]:
        return ray.get([remote.remote(attempt_log, name, answers, judge, code) for name in names])

    return _reverified(attempt_log, in_tasks)


def reverify_here(
    attempt_log: AttemptLog, answers: Answers, judge: JudgeConfig, code: CodeConfig | None
) -> int:
    """Verifies the log's stale attempts at these problems in this process; returns how many."""
    return _reverified(
        attempt_log,
        lambda names: [reverify_part(attempt_log, name, answers, judge, code) for name in names],
    )


def _reverified(
    attempt_log: AttemptLog,
    reverify_parts: Callable[[list[str]], list[Part[int] | Gone | Broken]],
) -> int:
    found = visit(
        attempt_log.store,
        attempt_log.folder,
        lambda files: reverify_parts([file.base_name for file in files]),
    )
    return sum(part.content or 0 for part in found.values() if isinstance(part, Part))


def _stale(live: pa.RecordBatch, index: AttemptIndex, judge: JudgeConfig) -> Answers:
    """The problems of a batch whose attempts need a new verdict."""
    if not live.num_rows:
        return {}
    high = hex_to_uint64(live["id"], 2)[:, 0]
    positions = np.minimum(np.searchsorted(index.high, high), len(index) - 1)
    live = live.filter(pa.array(index.high[positions] == high))  # most of a pool was never sampled
    rows = sorted(live.to_pylist(), key=lambda row: row["id"])
    keys = [verdict_key(row["answer"], row["domain"], judge) for row in rows]
    high = np.array([int(row["id"][:16], 16) for row in rows], np.uint64)
    maybe_stale = index.maybe_stale(high, np.array([int(key, 16) for key in keys], np.uint64))
    found = {}
    for position in np.flatnonzero(maybe_stale).tolist():
        row = rows[position]
        if index.known(row["id"], keys[position]).stale:
            asks = judge.rules_on(row["answer"], row["domain"])
            found[row["id"]] = (row["answer"], row["domain"], row["question"] if asks else "")
    return found


def reverify_part(
    attempt_log: AttemptLog,
    name: str,
    answers: Answers,
    judge: JudgeConfig,
    code: CodeConfig | None,
) -> Part[int] | Gone | Broken:
    """Verifies one part's stale attempts again; the content that it returns is how many."""
    wanted = pa.array(list(answers))

    def rows_of_problems(file: pq.ParquetFile) -> pa.Table:
        table = file.read(ATTEMPT.names, use_threads=False)
        return table.filter(pa.compute.is_in(table["problem_id"], wanted))

    part = read(attempt_log.store, f"{attempt_log.folder}/{name}", rows_of_problems)
    if not isinstance(part, Part) or part.content is None:
        return part
    table = part.content
    writer = LogWriter(attempt_log)
    with Verifier(judge=judge, code=code) as verifier:
        for row in table.to_pylist():
            answer, domain, question = answers[row["problem_id"]]
            key = verdict_key(answer, domain, judge)
            if row["judge"] == key and row["verdict"] != Verdict.ERROR:
                continue
            reason = row["finish_reason"]
            judged = verifier.check(
                answer, row["completion"], domain, complete=reason != "length", question=question
            )
            verdict: Verdict = final_verdict(judged.verdict, reason)
            fresh = {"verdict": verdict, "extracted": judged.extracted, "judge": key}
            writer.append(Attempt(**row | fresh))
    return Part(writer.flush(), part.merged_from)
