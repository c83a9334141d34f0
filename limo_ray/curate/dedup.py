"""Exact duplicates: of all rows that ask the same question, one stays.

    pool = exact(pool, priorities=["limo", "numina_math_cot"])

Two problems are the same when their ids, hashes of the normalised question, are. Which row stays
follows from the data alone: the source named first in `priorities`, then the first file by name,
then the first line. Near-duplicates and decontamination are stages of their own that come after
this one; they shuffle ids and keys, never text, and mark rows in the same three columns.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.records import Verdict

if TYPE_CHECKING:
    from ray.data import Dataset

    from limo_ray.verify import Verifier

# (one gold answer, another, domain) -> whether the verifier takes one for the other
Equal = Callable[[str, str, str], bool]

_KEY = "partition_key"
_SHOWN = 8  # answers of a conflict in the evidence


def exact(
    pool: "Dataset", priorities: list[str], partitions: int = 0, num_cpus: float = 1.0
) -> "Dataset":
    """Mark exact duplicates and conflicts among the live rows (those without a reason).

    A duplicate gets stage "dedup" and reason "duplicate", with the row that stays as evidence. Rows
    of one question whose answers differ, and are not equal to the verifier either way round, all
    get "conflicting_answers". Other rows pass as they are; the order of rows is not kept.

    Args:
        pool: rows with the columns of `records.POOL`.
        priorities: names of the sources, the one whose rows are to stay first.
        partitions: of the shuffle by id; 0 takes two for each CPU of the cluster, 8 to 400. A
            partition is held in memory by one task.
        num_cpus: what each task reserves.
    """
    import ray

    if not partitions:
        partitions = min(max(8, 2 * int(ray.cluster_resources().get("CPU", 1))), 400)

    def mark(table: pa.Table) -> pa.Table:
        from limo_ray.verify import Verifier

        # Its workers start with the first pair of answers that is not decided at a glance.
        with Verifier(workers=1) as verifier:
            return mark_duplicates(
                table.drop_columns(_KEY), priorities, same_answer(verifier.judge)
            )

    keyed = pool.map_batches(
        with_key, batch_size=None, batch_format="pyarrow", num_cpus=num_cpus
    ).repartition(partitions, keys=[_KEY])
    # A partition is one block, and batch_size=None hands it over whole.
    return keyed.map_batches(mark, batch_size=None, batch_format="pyarrow", num_cpus=num_cpus)


@cache
def _verifier() -> "Verifier":
    """One for each Ray worker, kept for later partitions; it ends with the worker."""
    from limo_ray.verify import Verifier

    return Verifier(workers=1)


def with_key(table: pa.Table) -> pa.Table:
    """The table with the column the shuffle goes by: the id, or what spreads rows without one."""
    place = pc.binary_join_element_wise(table["file"], pc.cast(table["line"], pa.string()), ":")
    live = pc.is_null(table["reason"])
    return table.append_column(_KEY, pc.if_else(live, table["id"], place))


def same_answer(judge: Callable[..., Any]) -> Equal:
    """Equality of gold answers by a verifier's `judge(answer, completion, domain)`."""

    def equal(one: str, other: str, domain: str) -> bool:
        from limo_ray.verify import show

        for gold, said in ((one, other), (other, one)):
            completion = "\\boxed{" + show(said, domain) + "}"
            if judge(gold, completion, domain).verdict is Verdict.CORRECT:
                return True
        return False

    return equal


def mark_duplicates(table: pa.Table, priorities: list[str], equal: Equal) -> pa.Table:
    """`exact` for a table that holds all rows of each of its ids; live rows come first, by id."""
    if not table.num_rows:
        return table
    # The answer last: rows of the very same place then still have one order.
    keys = {name: table[name] for name in ("id", "file", "line", "answer")}
    dead = pc.is_valid(table["reason"])
    rank = pc.index_in(table["source"], pa.array(priorities, pa.string()))
    rank = pc.fill_null(rank, len(priorities))
    order = ("dead", "id", "rank", "file", "line", "answer")
    table = table.take(
        pc.sort_indices(
            pa.table({"dead": dead, "rank": rank} | keys),
            sort_keys=[(name, "ascending") for name in order],
        )
    )
    live = table.slice(0, table.num_rows - pc.sum(dead).as_py()).combine_chunks()
    rest = table.slice(live.num_rows)
    if live.num_rows < 2:
        return table
    ids = live["id"].combine_chunks()
    again = np.zeros(live.num_rows, bool)  # rows with the id of the row before them
    again[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    if not again.any():
        return table
    starts = np.flatnonzero(~again)
    group = np.cumsum(~again) - 1  # of each row; its first row is the one to stay
    first = live.take(pa.array(starts[group]))
    differs = pc.or_(
        pc.not_equal(live["answer"], first["answer"]), pc.not_equal(live["domain"], first["domain"])
    )
    ends = np.append(starts[1:], live.num_rows)
    conflicts: dict[int, str] = {}
    for number in np.unique(group[differs.to_numpy()]).tolist():
        rows = live.slice(starts[number], ends[number] - starts[number])
        if (evidence := _conflict(rows, equal)) is not None:
            conflicts[number] = evidence
    in_conflict = np.isin(group, list(conflicts))
    told = pa.array([conflicts.get(number) for number in group.tolist()], pa.string())
    live = _set(live, pa.array(again & ~in_conflict), "duplicate", _kept(live, first))
    live = _set(live, pa.array(in_conflict), "conflicting_answers", told)
    return pa.concat_tables([live, rest])


def _conflict(rows: pa.Table, equal: Equal) -> str | None:
    """Evidence that the rows of one id have answers that are not equal; None when they are."""
    found = rows.select(["answer", "domain", "source", "file", "line"]).to_pylist()
    answer, domain = found[0]["answer"], found[0]["domain"]
    # In a set order, so that the verifier meets the same pairs in every run.
    others = sorted({(row["domain"], row["answer"]) for row in found} - {(domain, answer)})
    if all(d == domain and equal(answer, other, domain) for d, other in others):
        return None
    shown = [row | {"answer": row["answer"][:200]} for row in found[:_SHOWN]]
    return json.dumps({"id": rows["id"][0].as_py(), "rows": rows.num_rows, "answers": shown})


def _kept(live: pa.Table, first: pa.Table) -> pa.Array:
    """For each row, as JSON, the row of its id that stays."""
    return pc.binary_join_element_wise(
        '{"kept": {"source": ',
        _quoted(first["source"]),
        ', "file": ',
        _quoted(first["file"]),
        ', "line": ',
        pc.cast(first["line"], pa.string()),
        '}, "id": ',
        _quoted(live["id"]),
        "}",
        "",
    )


def _quoted(column: pa.ChunkedArray) -> pa.Array:
    encoded = pc.dictionary_encode(column.combine_chunks())
    quoted = [json.dumps(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(quoted, pa.string()).take(encoded.indices)


def _set(table: pa.Table, mask: pa.Array, reason: str, evidence: pa.Array) -> pa.Table:
    """The table with stage, reason and evidence set where `mask` is true."""
    fate: dict[str, Any] = {"stage": "dedup", "reason": reason, "evidence": evidence}
    for name, value in fate.items():
        column = pc.if_else(mask, value, table[name])
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table
