"""Filters of single problems: each looks at one row and says why it goes, or nothing.

    pool = gold_check(pool)

So far the gold check; filters by language, length, hyperlinks, several parts and the like belong
here too, each a function `table -> table` over a pure `row -> reason | None`, with a thin stage.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from ray.data import Dataset

# (gold answer, domain) pairs -> why each cannot be used, or None
Check = Callable[[Iterable[tuple[str, str]]], Iterable[str | None]]

# A plain number needs no parser to be accepted against itself.
_PLAIN = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")


def gold_check(pool: "Dataset", timeout_s: float = 10.0, num_cpus: float = 1.0) -> "Dataset":
    """Mark live rows whose gold answer the verifier does not accept against itself.

    They get stage "filters" and reason "answer_unverifiable", with the error and the answer as
    evidence. An answer whose check takes longer than `timeout_s` seconds or more than 2 GiB is
    unverifiable too: no answer can hang or crash the job.
    """

    def mark(table: pa.Table) -> pa.Table:
        return mark_unverifiable(table, lambda pairs: checked(pairs, timeout_s))

    return pool.map_batches(mark, batch_size=None, batch_format="pyarrow", num_cpus=num_cpus)


def mark_unverifiable(table: pa.Table, check: Check) -> pa.Table:
    """`gold_check` for a table."""
    live = pc.is_null(table["reason"])
    rows = table.select(["answer", "domain"]).filter(live).to_pylist()
    errors = check([(row["answer"], row["domain"]) for row in rows])
    evidence = iter(
        [
            error and json.dumps({"error": error, "answer": row["answer"][:200]})
            for row, error in zip(rows, errors, strict=True)
        ]
    )
    told = [next(evidence) if alive else None for alive in live.to_pylist()]
    return with_fate(table, "filters", "answer_unverifiable", told)


def with_fate(table: pa.Table, stage: str, reason: str, evidence: list[str | None]) -> pa.Table:
    """The table with stage, reason and evidence set in the rows that have evidence."""
    told = pa.array(evidence, pa.string())
    mask = pc.is_valid(told)
    for name, value in {"stage": stage, "reason": reason, "evidence": told}.items():
        column = pc.if_else(mask, value, table[name])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def checked(pairs: Iterable[tuple[str, str]], timeout_s: float) -> list[str | None]:
    """Why each (gold answer, domain) cannot be used, or None; in order."""
    from limo_ray.verify import Verifier

    with Verifier(timeout_s=timeout_s) as verifier:
        return [None if _plain(*pair) else verifier.unverifiable(*pair) for pair in pairs]


def _plain(answer: str, domain: str) -> bool:
    return domain == "math" and _PLAIN.fullmatch(answer) is not None
