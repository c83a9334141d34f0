"""Exact dedup: which row stays, conflicts, and no dependence on order or on blocks."""

import json
import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.curate.dedup import exact, mark_duplicates, same_answer, with_key
from limo_ray.records import POOL, problem_id
from limo_ray.verify import Verifier

PRIORITIES = ["first", "second"]


def row(question, answer, source="first", file="a.jsonl", line=1, domain="math", **more):
    return {
        "id": problem_id(question),
        "question": question,
        "answer": answer,
        "source": source,
        "domain": domain,
        "metadata": "{}",
        "file": file,
        "line": line,
        "stage": None,
        "reason": None,
        "evidence": None,
    } | more


def never(*_):
    raise AssertionError("the verifier was asked about equal texts")


def fate(rows, equal=never, priorities=PRIORITIES):
    """(source, file, line) -> (reason, evidence)"""
    table = mark_duplicates(pa.Table.from_pylist(rows, schema=POOL), priorities, equal)
    assert table.schema.equals(POOL) and table.num_rows == len(rows)
    found = {}
    for r in table.to_pylist():
        assert r["stage"] == (None if r["reason"] is None else r["stage"])
        evidence = r["evidence"] and json.loads(r["evidence"])
        found[r["source"], r["file"], r["line"]] = (r["reason"], evidence)
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1, timeout_s=30) as made:
        yield made


def test_the_first_source_then_file_then_line_stays_and_is_named():
    rows = [
        row("What is 1 + 1?", "2", source="other", line=1),
        row("what  is 1 + 1?", "2", source="second", file="a", line=1),
        row("What is 1 + 1?", "2", source="first", file="b", line=1),
        row("What is 1 + 1? ", "2", source="first", file="a", line=10),
        row("What is 1 + 1?", "2", source="first", file="a", line=9),
        row("What is 1 + 2?", "3", source="second", file="a", line=2),
    ]
    found = fate(rows)
    kept = {"source": "first", "file": "a", "line": 9}
    assert found.pop(("first", "a", 9)) == (None, None)
    assert found.pop(("second", "a", 2)) == (None, None)
    assert set(map(str, found.values())) == {
        str(("duplicate", {"kept": kept, "id": problem_id("What is 1 + 1?")}))
    }
    # The order of the sources is the config's, not the alphabet's.
    assert fate(rows, priorities=["second", "first"])["second", "a", 1] == (None, None)


def test_differing_answers_are_duplicates_when_the_verifier_calls_them_equal():
    rows = [row("Q?", "1/2", line=1), row("Q?", "0.5", line=2), row("Q?", "1/2", line=3)]
    asked = []

    def one_way(a, b, domain):
        asked.append((a, b, domain))
        return True

    reasons = {at[2]: reason for at, (reason, _) in fate(rows, one_way).items()}
    assert reasons == {1: None, 2: "duplicate", 3: "duplicate"}
    assert asked == [("1/2", "0.5", "math")]


def test_all_rows_of_a_conflict_go_with_the_answers_as_evidence():
    rows = [row("Q?", "5", line=1), row("Q?", "5", line=2), row("Q?", "6" * 300, line=3)]
    rows += [row("Other?", "1", line=4)]
    found = fate(rows, lambda a, b, domain: False)
    assert found["first", "a.jsonl", 4] == (None, None)
    for line in (1, 2, 3):
        reason, evidence = found["first", "a.jsonl", line]
        assert reason == "conflicting_answers"
        assert [a["answer"] for a in evidence["answers"]] == ["5", "5", "6" * 200]
        assert [a["line"] for a in evidence["answers"]] == [1, 2, 3]
        assert (evidence["rows"], evidence["id"]) == (3, problem_id("Q?"))


def test_another_domain_is_another_answer():
    rows = [row("Q?", "5", line=1), row("Q?", "5", line=2, domain="choice")]
    assert {r for r, _ in fate(rows, never).values()} == {"conflicting_answers"}


def test_rows_that_are_dropped_already_pass_untouched():
    dead = {"stage": "sources", "reason": "invalid", "evidence": '{"error": "x"}'}
    rows = [row("", "", line=i, **dead) for i in range(3)] + [row("Q?", "1", line=9)]
    found = fate(rows)
    assert [found["first", "a.jsonl", i] for i in range(3)] == [("invalid", {"error": "x"})] * 3
    assert found["first", "a.jsonl", 9] == (None, None)
    assert fate(rows[:3]) and fate(rows[:1]) and fate([]) == {}


def test_file_names_are_quoted_in_the_evidence():
    rows = [row("Q?", "1", file='a "b" \u2028.csv', line=i) for i in (1, 2)]
    _, evidence = fate(rows)["first", 'a "b" \u2028.csv', 2]
    assert evidence["kept"]["file"] == 'a "b" \u2028.csv'


@given(data=st.data())
def test_the_result_does_not_depend_on_the_order_of_rows(data):
    rows = [
        row(f"Q{question}?", answer, source, file, line)
        for line, (question, answer, source, file) in enumerate(
            data.draw(
                st.lists(
                    st.tuples(
                        st.integers(0, 4),
                        st.sampled_from(["1", "1.0", "2"]),
                        st.sampled_from(["first", "second", "third"]),
                        st.sampled_from("ab"),
                    ),
                    max_size=20,
                )
            )
        )
    ]

    def equal(a, b, domain):
        return float(a) == float(b)

    found = fate(rows, equal)
    assert fate(data.draw(st.permutations(rows)), equal) == found
    # One row of every question stays, unless its answers disagree: then none does.
    for question in {r["question"] for r in rows}:
        group = [r for r in rows if r["question"] == question]
        reasons = Counter(found[r["source"], r["file"], r["line"]][0] for r in group)
        if len({float(r["answer"]) for r in group}) > 1:
            assert reasons == {"conflicting_answers": len(group)}
        else:
            assert reasons == {None: 1} | ({"duplicate": len(group) - 1} if group[1:] else {})


def test_the_shuffle_spreads_rows_without_an_id():
    dead = [row("", "", line=i, stage="sources", reason="invalid", evidence="{}") for i in range(9)]
    table = with_key(pa.Table.from_pylist([*dead, row("Q?", "1")], schema=POOL))
    keys = table["partition_key"].to_pylist()
    assert len(set(keys)) == 10 and keys[-1] == problem_id("Q?")


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
def test_equality_of_gold_answers_is_the_verifiers(verifier, domain, one, other, same):
    assert same_answer(verifier.judge)(one, other, domain) is same


def test_through_ray_with_any_blocks_and_partitions(local_ray):
    rng = random.Random(0)
    rows = [
        row(f"What is {i % 60} + 1?", str(i % 60 + 1), rng.choice(PRIORITIES), line=i)
        for i in range(300)
    ]
    rows += [row("Half?", "1/2", line=1_000), row("Half?", "0.5", line=1_001)]
    rows += [row("Odd?", "1", line=2_000), row("Odd?", "2", line=2_001)]
    rows += [
        row("", "", line=3_000 + i, stage="sources", reason="invalid", evidence="{}")
        for i in range(50)
    ]
    results = []
    for blocks, partitions in ((1, 3), (7, 5)):
        rng.shuffle(rows)
        table = pa.Table.from_pylist(rows, schema=POOL)
        size = -(-len(rows) // blocks)
        pool = local_ray.data.from_arrow(
            [table.slice(at, size) for at in range(0, len(rows), size)]
        )
        marked = exact(pool, PRIORITIES, partitions=partitions, num_cpus=0.5).take_all()
        assert set(marked[0]) == set(POOL.names)
        results.append(sorted(marked, key=lambda r: (r["source"], r["file"], r["line"])))
    assert results[0] == results[1]
    assert Counter(r["reason"] for r in results[0]) == {
        None: 61,
        "duplicate": 241,
        "conflicting_answers": 2,
        "invalid": 50,
    }
