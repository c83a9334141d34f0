"""Exact duplicates: of all rows that ask the same question, one stays.

    dropped = duplicates(ids, priorities=["limo", "numina_math_cot"], equal=same_gold_answer)

Two problems are the same when their ids, hashes of the normalised question, are. Which row stays
follows from the data alone: a row with an answer, the source named first in `priorities`, then a
row with a worked solution, then the smaller hash of question and answer; file and line decide
between rows that are the same in all of that. The question itself is not needed.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.problems.answer_check import Equal
from limo_ray.problems.drop_reasons import DROPPED

_SHOWN = 8  # answers of a conflict in the evidence


def duplicates(ids: pa.Table, priorities: list[str], equal: Equal) -> pa.Table:
    """The rows that go, with the schema DROPPED, by row number.

    A duplicate gets reason "duplicate", with the row that stays as evidence. Rows of one question
    whose answers differ, and are not equal for the verifier either way round, all get
    "conflicting_answers".

    Args:
        ids: row, id, source, domain, answer, solved, digest (hash of question and answer), file,
            line; all rows of each id.
        priorities: names of the sources, the one whose rows are to stay first.
        equal: compares gold answers.
    """
    if ids.num_rows < 2:
        return DROPPED.empty_table()
    rank = pc.index_in(ids["source"], pa.array(priorities, pa.string()))
    rank = pc.fill_null(rank, len(priorities))
    columns = {name: ids[name] for name in ("id", "digest", "file", "line")}
    unanswered = pc.equal(ids["answer"], "")
    unsolved = pc.invert(ids["solved"])
    keys = pa.table({"unanswered": unanswered, "rank": rank, "unsolved": unsolved, **columns})
    by = ("id", "unanswered", "rank", "unsolved", "digest", "file", "line")
    ordered = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in by])
    names = ids["id"].take(ordered).combine_chunks()
    again = np.zeros(len(names), bool)  # rows with the id of the row before them
    again[1:] = pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
    several = again | np.append(again[1:], False)
    ids = ids.take(ordered.filter(pa.array(several))).combine_chunks()
    again = again[several]
    if not len(again):
        return DROPPED.empty_table()
    starts = np.flatnonzero(~again)
    group = np.cumsum(~again) - 1  # of each row; its first row is the one to stay
    first = ids.take(pa.array(starts[group]))
    differs = pc.or_(
        pc.not_equal(ids["answer"], first["answer"]), pc.not_equal(ids["domain"], first["domain"])
    )
    ends = np.append(starts[1:], ids.num_rows)
    conflicts: dict[int, str] = {}
    for number in np.unique(group[differs.to_numpy()]).tolist():
        rows = ids.slice(starts[number], ends[number] - starts[number])
        if (evidence := _conflict(rows, equal)) is not None:
            conflicts[number] = evidence
    in_conflict = np.isin(group, list(conflicts))
    answers = pa.array([conflicts.get(number) for number in group.tolist()], pa.string())
    dropped = pa.table(
        {
            "row": ids["row"],
            "reason": pc.if_else(pa.array(in_conflict), "conflicting_answers", "duplicate"),
            "evidence": pc.if_else(pa.array(in_conflict), answers, _kept(ids, first)),
        },
        schema=DROPPED,
    )
    return dropped.filter(pa.array(again | in_conflict)).sort_by("row")


def _conflict(rows: pa.Table, equal: Equal) -> str | None:
    """Evidence that the rows of one id have answers that are not equal; None when they are."""
    found = rows.select(["answer", "domain", "source", "file", "line"]).to_pylist()
    answer, domain = found[0]["answer"], found[0]["domain"]
    # In a fixed order, so that the verifier meets the same pairs in every run.
    given = {(row["domain"], row["answer"]) for row in found if row["answer"]}
    others = sorted(given - {(domain, answer)})
    if all(d == domain and equal(answer, other, domain) for d, other in others):
        return None
    shown = [row | {"answer": row["answer"][:200]} for row in found[:_SHOWN]]
    return json.dumps({"id": rows["id"][0].as_py(), "rows": rows.num_rows, "answers": shown})


def _kept(ids: pa.Table, first: pa.Table) -> pa.Array:
    """For each row, as JSON, the row of its id that stays."""
    return pc.binary_join_element_wise(
        '{"kept": {"source": ',
        _quoted(first["source"]),
        ', "file": ',
        _quoted(first["file"]),
        ', "line": ',
        pc.cast(first["line"], pa.string()),
        '}, "id": ',
        _quoted(ids["id"]),
        "}",
        "",
    )


def _quoted(column: pa.ChunkedArray) -> pa.Array:
    encoded = pc.dictionary_encode(column.combine_chunks())
    quoted = [json.dumps(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(quoted, pa.string()).take(encoded.indices)
