"""Gold answers: whether the verifier accepts one against itself, and whether two are the same.

table = mark_unverifiable(table, checked)       the gold check
same_gold_answer("1/2", "0.5", "math")          True
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.core.records import Verdict
from limo_ray.problems.drop_reasons import with_drop_reason

if TYPE_CHECKING:
    from limo_ray.verify import Verifier

# (gold answer, domain) pairs -> why each cannot be used, or None
Check = Callable[[Iterable[tuple[str, str]]], Iterable[str | None]]

# (one gold answer, another, domain) -> whether the verifier takes one for the other
Equal = Callable[[str, str, str], bool]

# A plain number needs no parser to be accepted against itself.
_PLAIN = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")


def mark_unverifiable(table: pa.Table, check: Check, *, unanswered: bool = False) -> pa.Table:
    """Mark live rows whose gold answer the verifier does not accept against itself.

    They get stage "filters" and reason "answer_unverifiable", with the error and the answer as
    evidence. With `unanswered` rows may be without an answer.
    """
    live = pc.is_null(table["reason"])
    if unanswered:
        live = pc.and_(live, pc.not_equal(table["answer"], ""))
    rows = table.select(["answer", "domain"]).filter(live).to_pylist()
    errors = check([(row["answer"], row["domain"]) for row in rows])
    evidence = iter(
        [
            error and json.dumps({"error": error, "answer": row["answer"][:200]})
            for row, error in zip(rows, errors, strict=True)
        ]
    )
    by_row = [next(evidence) if alive else None for alive in live.to_pylist()]
    return with_drop_reason(table, "filters", "answer_unverifiable", by_row)


def checked(pairs: Iterable[tuple[str, str]], timeout_s: float = 10.0) -> list[str | None]:
    """Why each (gold answer, domain) cannot be used, or None; in order.

    An answer whose check takes longer than `timeout_s` seconds or more than 2 GiB cannot be used
    either: no answer can hang or crash the job.
    """
    verifier = _verifier(timeout_s)
    return [None if _plain(*pair) else verifier.unverifiable(*pair) for pair in pairs]


def same_gold_answer(one: str, other: str, domain: str) -> bool:
    """Whether this process's verifier takes one gold answer for the other."""
    from limo_ray.verify import show

    check = _verifier(5.0).check
    return any(
        check(gold, f"\\boxed{{{show(given, domain)}}}", domain).verdict is Verdict.CORRECT
        for gold, given in ((one, other), (other, one))
    )


@cache
def _verifier(timeout_s: float) -> "Verifier":
    """One for each process that checks answers; it ends with the process."""
    from limo_ray.verify import Verifier

    return Verifier(timeout_s=timeout_s)


def _plain(answer: str, domain: str) -> bool:
    return domain == "math" and _PLAIN.fullmatch(answer) is not None
