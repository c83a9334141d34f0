"""The ledger: one row for every input row, kept or dropped, where and why. Counts add up."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from limo_ray.core.errors import LimoError
from limo_ray.core.records import LEDGER
from limo_ray.curate.difficulty import Sampled
from limo_ray.curate.part_files import gather, write_parts
from limo_ray.problems.problem_rows import ORIGIN
from limo_ray.sampling.stop_rule import Decision
from limo_ray.storage.store import Store, scan

PART_ROWS = 100_000
SAMPLES = 3  # rows of each count that the report shows


class LedgerError(LimoError):
    """Rows of the pool are missing from the ledger, or are there twice: nothing is published."""


class Outcome(NamedTuple):
    """What happened to a kept problem: it became an example (no reason), or why it did not."""

    stage: str
    reason: str | None
    evidence: dict[str, Any]


Facts = dict[str, dict[str, Any]]  # further evidence, by problem id


def write(
    run: Store,
    sampled: Sampled,
    outcomes: dict[str, Outcome],
    facts: Facts,
) -> list[dict[str, Any]]:
    """Writes `<run>/ledger/part-*.parquet` and returns its counts for the report.

    Args:
        outcomes: of every kept problem, by id.
        facts: further evidence: the votes of a suspicious or a majority gold answer.

    Returns:
        Rows {source, outcome, stage, reason, rows, sample}, sample with up to 3 rows' origins.

    Raises:
        LedgerError: the ledger has not one row for each row of the pool.
    """
    run.delete("ledger")
    names = ("source", "outcome", "stage", "reason")
    counts: dict[tuple[Any, ...], dict[str, Any]] = {}

    def tables() -> Iterator[pa.Table]:
        for rows in _rows(run, sampled, outcomes, facts):
            for row in rows:
                key = tuple(row[name] for name in names)
                seen = counts.setdefault(key, {"rows": 0, "sample": []})
                seen["rows"] += 1
                if len(seen["sample"]) < SAMPLES:
                    seen["sample"].append(
                        {name: row[name] for name in ("file", "line", "evidence")}
                    )
            yield pa.Table.from_pylist(rows, schema=LEDGER)

    write_parts(run.within("ledger"), gather(tables(), PART_ROWS))
    pool = sum(batch.num_rows for batch in scan(run.within("pool"), ["line"]))
    written = sum(seen["rows"] for seen in counts.values())
    if written != pool:
        raise LedgerError(
            f"the ledger has {written:,} rows for {pool:,} rows of the pool: parts of "
            f"{run.shown}/decided were lost or doubled; the same command decides them again from "
            "the attempt log"
        )
    return [{**dict(zip(names, key, strict=True)), **seen} for key, seen in counts.items()]


def _rows(
    run: Store,
    sampled: Sampled,
    outcomes: dict[str, Outcome],
    facts: Facts,
) -> Iterator[list[dict[str, Any]]]:
    """The ledger's rows, some at a time: first those that were never sampled, then the others."""
    columns = [*ORIGIN, "id", "domain", "order"]
    for batch in scan(run.within("pool"), [*columns, "stage", "reason", "evidence"]):
        yield [
            _row(row, row["stage"], row["reason"], row["evidence"])
            if row["reason"] is not None
            else _row(row, "difficulty", "not_sampled", None)
            for row in batch.to_pylist()
            if row["reason"] is not None or not sampled.cutoffs.include(row)
        ]
    budgets = {stage.name: stage.rule.budget for stage in sampled.stages if stage.gate}
    for batch in scan(run.within("decided"), [*columns, "alive", "outcomes"]):
        rows = []
        for row in filter(sampled.cutoffs.include, batch.to_pylist()):
            if row["alive"]:
                stage, reason, evidence = outcomes[row["id"]]
            else:
                last = next(
                    outcome
                    for outcome in json.loads(row["outcomes"])
                    if outcome["stage"] in budgets and outcome["decision"] != Decision.KEEP
                )
                stage, reason = last["stage"], last["decision"]
                if reason == Decision.UNDECIDED:
                    reason = "too_few_attempts"
                evidence = {name: last[name] for name in ("correct", "finished")}
                evidence["budget"] = budgets[stage]
            evidence = evidence | facts.get(row["id"], {})
            rows.append(_row(row, stage, reason, json.dumps(evidence, ensure_ascii=False)))
        yield rows


def _row(
    row: dict[str, Any], stage: str, reason: str | None, evidence: str | None
) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ORIGIN},
        "problem_id": row["id"],
        "outcome": "kept" if reason is None else "dropped",
        "stage": stage,
        "reason": reason,
        "evidence": evidence,
    }
