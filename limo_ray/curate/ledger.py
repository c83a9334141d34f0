"""The ledger: one row for every input row, kept or dropped, where and why. Counts add up."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from limo_ray.core.records import LEDGER
from limo_ray.curate.difficulty import counts_as_sampled
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision
from limo_ray.storage.store import Store, scan

log = logging.getLogger(__name__)

PART_ROWS = 100_000
ORIGIN = ["source", "file", "line"]


def kept_problems(run: Store, cutoffs: dict[str, int], group_by: str) -> list[dict[str, Any]]:
    """The problems that difficulty sampling kept, in their seeded order."""
    rows: list[dict[str, Any]] = []
    for batch in scan(run.within("decided")):
        batch = batch.filter(batch["alive"])
        rows += [row for row in batch.to_pylist() if counts_as_sampled(row, cutoffs, group_by)]
    return sorted(rows, key=lambda row: row["order"])


def write(
    run: Store,
    stages: list[Stage],
    cutoffs: dict[str, int],
    group_by: str,
    fates: dict[str, tuple[str, str | None, dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Writes `<run>/ledger/part-*.parquet` and returns its counts for the report.

    Args:
        fates: of every kept problem, by id: (stage, reason or None when it became an example,
            evidence).

    Returns:
        Rows {source, outcome, stage, reason, rows, sample}, sample with up to 3 rows' origins.
    """
    run.delete("ledger")
    counts: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    part: list[dict[str, Any]] = []
    written = 0

    def flush() -> None:
        nonlocal written, part
        table = pa.Table.from_pylist(part, schema=LEDGER)
        run.write_table(f"ledger/part-{written:06d}.parquet", table)
        written, part = written + 1, []

    for row in _rows(run, stages, cutoffs, group_by, fates):
        key = (row["source"], row["outcome"], row["stage"], row["reason"])
        seen = counts.setdefault(key, {"rows": 0, "sample": []})
        seen["rows"] += 1
        if len(seen["sample"]) < 3:
            seen["sample"].append({name: row[name] for name in ("file", "line", "evidence")})
        part.append(row)
        if len(part) == PART_ROWS:
            flush()
    if part or not written:
        flush()
    names = ("source", "outcome", "stage", "reason")
    return [{**dict(zip(names, key, strict=True)), **seen} for key, seen in counts.items()]


def _rows(
    run: Store,
    stages: list[Stage],
    cutoffs: dict[str, int],
    group_by: str,
    fates: dict[str, tuple[str, str | None, dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    pool_columns = [*ORIGIN, "id", "domain", "order", "stage", "reason", "evidence"]
    for batch in scan(run.within("pool"), pool_columns):
        for row in batch.to_pylist():
            if row["reason"] is not None:
                yield _entry(row, row["stage"], row["reason"], row["evidence"])
            elif not counts_as_sampled(row, cutoffs, group_by):
                yield _entry(row, "difficulty", "not_sampled", None)
    gates = {stage.name: stage for stage in stages if stage.gate}
    columns = [*ORIGIN, "id", "domain", "order", "alive", "outcomes"]
    for batch in scan(run.within("decided"), columns):
        for row in batch.to_pylist():
            if not counts_as_sampled(row, cutoffs, group_by):
                continue
            if row["alive"]:
                stage, reason, evidence = fates[row["id"]]
                yield _entry(row, stage, reason, json.dumps(evidence))
                continue
            last = next(
                outcome
                for outcome in json.loads(row["outcomes"])
                if outcome["stage"] in gates and outcome["decision"] != Decision.KEEP
            )
            evidence = {
                "correct": last["correct"],
                "finished": last["finished"],
                "budget": gates[last["stage"]].rule.budget,
            }
            yield _entry(row, last["stage"], last["decision"], json.dumps(evidence))


def _entry(
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
