"""Gold answers by majority, for problems that came without one.

The strong stage spends its whole budget on them, and the answer that most attempts give becomes
the gold answer, if enough agree. It is written into the pool, with the votes in the metadata, so
that all later steps treat the problem as any other: its logged attempts are verified against it.
"""

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.core.records import MAJORITY, majority_gold
from limo_ray.curate.config import CurateConfig, MajorityConfig
from limo_ray.curate.difficulty import sample_pool
from limo_ray.curate.suspicious import count_votes, strong_answers
from limo_ray.problems.answer_check import same_gold_answer
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store, scan

STAGE, REASON = "majority", "no_majority"  # of the ledger


def give_answers(pool: Store, run: Store, store: Store, config: CurateConfig, device: str) -> None:
    """Gives every live problem of the pool without an answer one, or drops it.

    A pool that was cut off on the way is continued; its attempts are in the log.
    """
    if not any(source.unanswered for source in config.sources):
        return
    unanswered = _unanswered(pool)
    if not unanswered:
        return
    strong = config.difficulty.strong
    budget = strong.rule.budget
    rule = StopRule(budget=budget, keep_min=0, keep_max=budget, early=False)
    difficulty = replace(
        config.difficulty, weak=None, strong=replace(strong, rule=rule), stop_after_kept=0
    )
    chains = replace(config.chains, teachers=[])
    sampled = sample_pool(
        pool, run, store, replace(config, difficulty=difficulty, chains=chains), device,
        frozenset(unanswered),
    )  # fmt: skip
    answers = strong_answers(sampled.stages, unanswered, store)
    finished = _finished(run)
    for name in pool.files(""):
        _write_answers(pool, name, answers, finished, config.difficulty.majority)


def _unanswered(pool: Store) -> list[str]:
    found = []
    for batch in scan(pool, ["id", "answer", "reason"]):
        live = pc.and_(pc.is_null(batch["reason"]), pc.equal(batch["answer"], ""))
        found += batch.filter(live)["id"].to_pylist()
    return found


def _finished(run: Store) -> dict[str, int]:
    """Strong attempts by problem."""
    found: dict[str, int] = {}
    for batch in scan(run.within("decided"), ["id", "outcomes"]):
        for row in batch.to_pylist():
            for outcome in json.loads(row["outcomes"]):
                found[row["id"]] = outcome["finished"]
    return found


def majority(
    answers: list[str], attempts: int, config: MajorityConfig
) -> tuple[str | None, dict[str, int]]:
    """The answer that enough of the attempts give, or None; and all votes, most first."""
    votes = count_votes(answers, same_gold_answer)
    answer, most = next(iter(votes.items()), ("", 0))
    enough = most >= config.count and most >= config.share * attempts
    return (answer if enough else None), votes


def _write_answers(
    pool: Store,
    name: str,
    answers: dict[str, list[str]],
    finished: dict[str, int],
    config: MajorityConfig,
) -> None:
    """Writes one shard of the pool with its problems' new answers."""
    table = pool.read_table(name)
    rows = table.to_pylist()
    changed = False
    for row in rows:
        if row["reason"] is not None or row["answer"]:
            continue
        changed = True
        attempts = finished.get(row["id"], 0)
        answer, votes = majority(answers.get(row["id"], []), attempts, config)
        if answer is None:
            evidence = json.dumps({"votes": votes, "attempts": attempts}, ensure_ascii=False)
            row.update(stage=STAGE, reason=REASON, evidence=evidence)
        else:
            told = {MAJORITY: {"votes": votes[answer], "attempts": attempts}}
            metadata = json.loads(row["metadata"] or "{}") | told
            row.update(answer=answer, metadata=json.dumps(metadata, ensure_ascii=False))
    if changed:
        groups = pq.read_metadata(pool.path(name), filesystem=pool.filesystem)
        size = groups.row_group(0).num_rows
        pool.write_table(name, pa.Table.from_pylist(rows, schema=table.schema), size)


def marks(pool: Store) -> dict[str, dict[str, Any]]:
    """The votes behind the pool's majority answers, by problem id."""
    found = {}
    for batch in scan(pool, ["id", "reason", "answer", "metadata"]):
        mine = pc.and_(
            pc.is_null(batch["reason"]), pc.match_substring(batch["metadata"], f'"{MAJORITY}"')
        )
        for row in batch.filter(mine).to_pylist():
            if told := majority_gold(row["metadata"]):
                found[row["id"]] = told | {"answer": row["answer"]}
    return found
