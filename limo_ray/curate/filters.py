"""Filters of single problems: each looks at one row and says why it goes, or nothing.

    pool = gold_check(pool)

So far the gold check; filters by language, length, hyperlinks, several parts and the like belong
here too, each a function `table -> table` over a pure `row -> reason | None`, with a thin stage.
"""

import importlib
import json
import re
import resource
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pebble import ProcessPool
    from ray.data import Dataset

# (gold answer, domain) pairs -> why each cannot be used, or None
Check = Callable[[Iterable[tuple[str, str]]], Iterable[str | None]]

# A plain number needs no parser to be accepted against itself.
_PLAIN = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")
_MEMORY = 2 * 2**30  # bytes that a gold answer may make its checker use
_LIBRARIES = {"math": ("math_verify",), "choice": ("math_verify",), "gym": ("reasoning_gym",)}


def gold_check(pool: "Dataset", timeout_s: float = 10.0, num_cpus: float = 1.0) -> "Dataset":
    """Mark live rows whose gold answer the verifier does not accept against itself.

    They get stage "filters" and reason "answer_unverifiable", with the error and the answer as
    evidence. Answers are checked in a process that is killed when one takes longer than `timeout_s`
    seconds or more than 2 GiB, which makes that answer unverifiable.
    """

    import ray
    from ray.data import ActorPoolStrategy

    cpus = int(ray.cluster_resources().get("CPU", 1))
    return pool.map_batches(
        _GoldCheck,
        fn_constructor_args=(timeout_s,),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=num_cpus,
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, cpus // 2)),
    )


class _GoldCheck:
    """An actor, whose checking processes live as long as it does."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def __call__(self, table: pa.Table) -> pa.Table:
        return mark_unverifiable(table, lambda pairs: guarded(pairs, self.timeout_s))


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


def guarded(pairs: Iterable[tuple[str, str]], timeout_s: float) -> Iterator[str | None]:
    """Why each (gold answer, domain) cannot be used, or None; in order, in killable processes."""
    from pebble import ProcessExpired

    asked = [
        None if _plain(*pair) else _process(pair[1]).schedule(_check, pair, timeout=timeout_s)
        for pair in pairs
    ]
    for future in asked:
        try:
            yield None if future is None else future.result()
        except TimeoutError:
            yield f"its check took longer than {timeout_s:g} s"
        except ProcessExpired as e:
            yield f"its check ended its process (exit code {e.exitcode})"


def _plain(answer: str, domain: str) -> bool:
    return domain == "math" and _PLAIN.fullmatch(answer) is not None


@cache
def _process(domain: str) -> "ProcessPool":
    """The checking process of a domain, started when first needed and kept for later tables."""
    import multiprocessing

    from pebble import ProcessPool

    # spawn: a fork of a Ray worker would inherit the locks that its threads hold.
    context = multiprocessing.get_context("spawn")
    return ProcessPool(max_workers=1, initializer=_start, initargs=(domain,), context=context)


def _start(domain: str) -> None:
    # Imports are slow on a busy machine and do not count against an answer's time.
    for library in ("limo_ray.verify", *_LIBRARIES.get(domain, ())):
        importlib.import_module(library)
    with open("/proc/self/statm", encoding="ascii") as f:
        now = int(f.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))


def _check(answer: str, domain: str) -> str | None:
    from limo_ray.verify import unverifiable
    from limo_ray.verify.domains import FAILURES

    try:
        return unverifiable(answer, domain)
    except FAILURES as e:  # MemoryError too
        return f"its check failed: {type(e).__name__}: {str(e)[:200]}"
