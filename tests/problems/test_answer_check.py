"""The gold check: which answers go, that the rest passes untouched, that nothing can hang it."""

import json
import time

import pyarrow as pa
import pytest

from limo_ray.core.records import POOL
from limo_ray.problems.answer_check import checked, mark_unverifiable, with_drop_reason
from limo_ray.verify import unverifiable

# No six of these make the target: the search for an expression takes seconds.
SLOW = json.dumps({"numbers": [97, 89, 83, 79, 73, 71], "target": 10**12 + 39, "use_all": True})
GOLD = [
    ("72", "math", None),
    ("-0.5", "math", None),
    ("\\frac{1}{2}", "math", None),
    ("", "math", "empty"),
    ("The men's track team", "math", None),  # words are verified as words
    ("\\frac{1}{", "math", "does not parse"),
    ('{"answer": "B", "options": {"A": "1", "B": "2"}}', "choice", None),
    ('{"answer": "C", "options": {"A": "1", "B": "2"}}', "choice", "none of the options"),
    ('{"numbers": [1, 2, 3], "target": 6}', "countdown", None),
    ('{"numbers": [1, 2, 3], "target": 1000}', "countdown", "no solution"),
    ('{"kind": "gcd", "answer": "4", "metadata": {}}', "gym", None),
    ('{"kind": "gdc", "answer": "4"}', "gym", "no such kind"),
    ("4", "chemistry", "no such domain"),
]


def pool(pairs):
    rows = [
        dict.fromkeys(POOL.names)
        | {"id": str(i), "question": f"Q{i}", "answer": answer, "domain": domain, "line": i}
        for i, (answer, domain, *_) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=POOL)


def assert_marked(table, rows):
    rows = sorted(rows, key=lambda row: row["line"])
    for before, row, (answer, _, words) in zip(table.to_pylist(), rows, GOLD, strict=True):
        if words is None:
            assert row == before
            continue
        assert (row["stage"], row["reason"]) == ("filters", "answer_unverifiable")
        evidence = json.loads(row["evidence"])
        assert words in evidence["error"] and evidence["answer"] == answer
        assert (row["id"], row["question"]) == (before["id"], before["question"])


def test_unverifiable_answers_go_with_the_error_and_the_answer():
    table = pool(GOLD)
    marked = mark_unverifiable(table, lambda pairs: [unverifiable(*pair) for pair in pairs])
    assert marked.schema.equals(POOL)
    assert_marked(table, marked.to_pylist())


def test_dropped_rows_are_not_checked_again():
    table = pool([("", "math"), ("5", "math"), ("", "math")])
    dead = pa.array(["invalid", None, "duplicate"])
    table = table.set_column(table.schema.get_field_index("reason"), "reason", dead)
    asked = []

    def check(pairs):
        asked.extend(pairs)
        return ["no"]

    assert mark_unverifiable(table, check)["reason"].to_pylist() == [
        "invalid",
        "answer_unverifiable",
        "duplicate",
    ]
    assert asked == [("5", "math")]


@pytest.mark.process
def test_an_answer_that_hangs_or_crashes_its_check_is_unverifiable_and_costs_no_other():
    good = '{"numbers": [1, 2, 3], "target": 6}'
    pairs = [("1/2", "math"), (SLOW, "countdown"), ("{}", "countdown"), (good, "countdown")]
    started = time.monotonic()
    found = checked(pairs, timeout_s=0.3)
    assert found[0] is None and found[3] is None
    assert found[1] == "its check took longer than 0.3 s"
    assert "not a countdown answer" in (found[2] or "")
    assert time.monotonic() - started < 60


@pytest.mark.process
def test_the_check_by_the_verifier_marks_the_same_rows_in_any_pieces():
    table = pool(GOLD)
    marked = pa.concat_tables(mark_unverifiable(t, checked) for t in (table[:5], table[5:]))
    assert_marked(table, marked.to_pylist())


def test_a_table_of_nothing_that_lives():
    dead = pool([("", "math")] * 2)
    dead = with_drop_reason(dead, "sources", "invalid", ["{}", "{}"])
    assert mark_unverifiable(dead, checked).equals(dead)
    assert mark_unverifiable(pool([]), checked).num_rows == 0


def test_a_drop_reason_is_set_where_there_is_evidence_and_nowhere_else():
    table = with_drop_reason(pool([("1", "math")] * 3), "filters", "proof", [None, "{}", None])
    table = with_drop_reason(table, "dedup", "duplicate", [None, None, '{"kept": 1}'])
    assert table.schema.equals(POOL)
    reasons = [
        tuple(row[name] for name in ("stage", "reason", "evidence")) for row in table.to_pylist()
    ]
    assert reasons == [
        (None, None, None),
        ("filters", "proof", "{}"),
        ("dedup", "duplicate", '{"kept": 1}'),
    ]


@pytest.mark.process
@pytest.mark.parametrize("answer", ["1" * 400, "9" * 16 + "/3", "1,080", "x = 5"])
def test_the_shortcut_for_plain_numbers_agrees_with_the_verifier(answer):
    assert checked([(answer, "math")], timeout_s=30) == [unverifiable(answer, "math")]
