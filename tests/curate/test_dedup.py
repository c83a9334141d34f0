"""Exact dedup: which row stays, conflicts, and no dependence on the order of rows."""

import json
import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.core.records import problem_id
from limo_ray.curate.dedup import duplicates
from limo_ray.problems.answer_check import same_gold_answer
from limo_ray.problems.drop_reasons import DROPPED
from limo_ray.problems.text_features import text_hash

PRIORITIES = ["first", "second"]
IDS = pa.schema(
    [
        ("row", pa.int64()), ("id", pa.string()), ("source", pa.string()), ("file", pa.string()),
        ("line", pa.int64()), ("domain", pa.string()), ("answer", pa.string()),
        ("solved", pa.bool_()), ("digest", pa.uint64()),
    ]
)  # fmt: skip


def row(question, answer, source="first", file="a.jsonl", line=1, domain="math", solved=False):
    return {
        "id": problem_id(question),
        "source": source,
        "file": file,
        "line": line,
        "domain": domain,
        "answer": answer,
        "solved": solved,
        "digest": text_hash(f"{question}\n{answer}"),
    }


def never(*_):
    raise AssertionError("the verifier was asked about equal texts")


def number(a, b, domain):
    return float(a) == float(b)


def drop_reasons(rows, equal=never, priorities=PRIORITIES):
    """(source, file, line) -> (reason, evidence) for every row, (None, None) for those that stay"""
    origins = [(r["source"], r["file"], r["line"]) for r in rows]
    assert len(set(origins)) == len(rows)
    ids = pa.Table.from_pylist([{"row": 7 * n} | r for n, r in enumerate(rows)], schema=IDS)
    dropped = duplicates(ids, priorities, equal)
    assert dropped.schema.equals(DROPPED)
    assert dropped["row"].to_pylist() == sorted(set(dropped["row"].to_pylist()))
    found = dict.fromkeys(origins, (None, None))
    for r in dropped.to_pylist():
        assert r["row"] % 7 == 0
        found[origins[r["row"] // 7]] = r["reason"], json.loads(r["evidence"])
    return found


def test_the_first_source_then_file_then_line_stays_and_is_named():
    rows = [
        row("What is 1 + 1?", "2", source="other", line=1),
        row("what  is 1 + 1?", "2", source="second", file="a", line=1),
        row("What is 1 + 1?", "2", source="first", file="b", line=1),
        row("What is 1 + 1?", "2", source="first", file="a", line=10),
        row("What is 1 + 1?", "2", source="first", file="a", line=9),
        row("What is 1 + 2?", "3", source="second", file="a", line=2),
    ]
    found = drop_reasons(rows)
    kept = {"source": "first", "file": "a", "line": 9}
    assert found.pop(("first", "a", 9)) == (None, None)
    assert found.pop(("second", "a", 2)) == (None, None)
    assert set(map(str, found.values())) == {
        str(("duplicate", {"kept": kept, "id": problem_id("What is 1 + 1?")}))
    }
    # The order of the sources is the config's, not the alphabet's; unnamed ones come last.
    assert drop_reasons(rows, priorities=["second", "first"])["second", "a", 1] == (None, None)
    assert drop_reasons(rows, priorities=["other"])["other", "a.jsonl", 1] == (None, None)


def test_a_row_with_a_solution_stays_but_the_source_goes_first():
    plain, solved = row("Q?", "1", line=1), row("Q?", "1", line=2, solved=True)
    assert drop_reasons([plain, solved])["first", "a.jsonl", 2] == (None, None)
    second = row("Q?", "1", source="second", line=2, solved=True)
    assert drop_reasons([plain, second])["first", "a.jsonl", 1] == (None, None)


def test_the_text_decides_before_the_place():
    """So that it does not matter how a pool is cut into files."""
    texts = ["What is 1 + 1?", "what is 1 + 1?", "What  is 1 + 1?", "WHAT is 1 + 1?"]
    smallest = min(texts, key=lambda text: text_hash(f"{text}\n2"))
    for order in range(4):
        turned = texts[order:] + texts[:order]
        found = drop_reasons([row(text, "2", line=line) for line, text in enumerate(turned)])
        stays = [line for (_, _, line), (reason, _) in found.items() if reason is None]
        assert [turned[line] for line in stays] == [smallest]


def test_differing_answers_are_duplicates_when_the_verifier_calls_them_equal():
    rows = [row("Q?", "1/2", line=1), row("Q?", "0.5", line=2), row("Q?", "1/2", line=3)]
    rows[0]["solved"] = True
    asked = []

    def one_way(a, b, domain):
        asked.append((a, b, domain))
        return True

    reasons = {at[2]: reason for at, (reason, _) in drop_reasons(rows, one_way).items()}
    assert reasons == {1: None, 2: "duplicate", 3: "duplicate"}
    # each other answer once, in a set order
    assert asked == [("1/2", "0.5", "math")]
    asked.clear()
    more = [row("Q?", answer, line=9 + n) for n, answer in enumerate(["5/10", "0.50", ".5"])]
    drop_reasons([*rows, *more], one_way)
    assert [other for _, other, _ in asked] == [".5", "0.5", "0.50", "5/10"]


def test_all_rows_of_a_conflict_go_with_the_answers_as_evidence():
    rows = [row("Q?", "5", line=1, solved=True), row("Q?", "5", line=2, solved=True)]
    rows += [row("Q?", "6" * 300, line=3), row("Other?", "1", line=4)]
    found = drop_reasons(rows, lambda a, b, domain: False)
    assert found["first", "a.jsonl", 4] == (None, None)
    for line in (1, 2, 3):
        reason, evidence = found["first", "a.jsonl", line]
        assert reason == "conflicting_answers"
        assert [a["answer"] for a in evidence["answers"]] == ["5", "5", "6" * 200]
        assert [a["line"] for a in evidence["answers"]] == [1, 2, 3]
        assert (evidence["rows"], evidence["id"]) == (3, problem_id("Q?"))


def test_another_domain_is_another_answer():
    rows = [row("Q?", "5", line=1), row("Q?", "5", line=2, domain="choice")]
    assert {r for r, _ in drop_reasons(rows, never).values()} == {"conflicting_answers"}


def test_the_evidence_of_a_conflict_shows_some_of_many_answers():
    found = drop_reasons([row("Q?", str(n), line=n) for n in range(50)], number)
    (_, evidence), *_ = found.values()
    assert evidence["rows"] == 50 and len(evidence["answers"]) == 8
    assert {reason for reason, _ in found.values()} == {"conflicting_answers"}


def test_nothing_goes_where_nothing_is_there_twice():
    assert drop_reasons([]) == {}
    for count in (1, 2, 5):
        rows = [row(f"Q{n}?", "1", line=n) for n in range(count)]
        assert set(drop_reasons(rows).values()) == {(None, None)}


def test_file_names_are_quoted_in_the_evidence():
    name = 'a "b" \\ \u2028.csv'
    rows = [row("Q?", "1", source='s"', file=name, line=i) for i in (1, 2)]
    _, evidence = drop_reasons(rows)['s"', name, 2]
    assert evidence["kept"] == {"source": 's"', "file": name, "line": 1}


@given(data=st.data())
def test_the_result_does_not_depend_on_the_order_of_rows(data):
    rows = [
        row(f"Q{question}?", answer, source, file, line, solved=solved)
        for line, (question, answer, source, file, solved) in enumerate(
            data.draw(
                st.lists(
                    st.tuples(
                        st.integers(0, 4),
                        st.sampled_from(["1", "1.0", "2"]),
                        st.sampled_from(["first", "second", "third"]),
                        st.sampled_from("ab"),
                        st.booleans(),
                    ),
                    max_size=20,
                )
            )
        )
    ]

    found = drop_reasons(rows, number)
    assert drop_reasons(data.draw(st.permutations(rows)), number) == found
    # One row of every question stays, unless its answers disagree: then none does.
    for id_ in {r["id"] for r in rows}:
        group = [r for r in rows if r["id"] == id_]
        reasons = Counter(found[r["source"], r["file"], r["line"]][0] for r in group)
        if len({float(r["answer"]) for r in group}) > 1:
            assert reasons == {"conflicting_answers": len(group)}
        else:
            assert reasons == {None: 1} | ({"duplicate": len(group) - 1} if group[1:] else {})


@pytest.mark.process
@pytest.mark.parametrize(
    ("domain", "one", "other", "same"),
    [
        ("math", "1/2", "0.5", True),
        ("math", "\\frac{1}{2}", "\\dfrac12", True),
        ("math", "12", "13", False),
        (
            "gym",
            '{"kind": "gcd", "answer": "4"}',
            '{"kind": "gcd", "answer": "4", "metadata": {}}',
            True,
        ),
        ("gym", '{"kind": "gcd", "answer": "4"}', '{"kind": "gcd", "answer": "5"}', False),
        (
            "choice",
            '{"answer": "A", "options": {"A": "1", "B": "2"}}',
            '{"answer": "B", "options": {"A": "1", "B": "2"}}',
            False,
        ),
    ],
)
def test_equality_of_gold_answers_is_the_verifiers(domain, one, other, same):
    assert same_gold_answer(one, other, domain) is same


def test_many_rows_in_any_order():
    rng = random.Random(0)
    rows = [
        row(f"What is {i % 60} + 1?", str(i % 60 + 1), rng.choice(PRIORITIES), line=i)
        for i in range(300)
    ]
    rows += [row("Half?", "1/2", line=1_000), row("Half?", "0.5", line=1_001)]
    rows += [row("Odd?", "1", line=2_000), row("Odd?", "2", line=2_001)]

    def half(one, other, domain):
        return {one, other} == {"1/2", "0.5"}

    found = drop_reasons(rows, half)
    rng.shuffle(rows)
    assert drop_reasons(rows, half) == found
    reasons = Counter(reason for reason, _ in found.values())
    assert reasons == {None: 61, "duplicate": 241, "conflicting_answers": 2}
