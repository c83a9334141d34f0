"""The filters: what each drops and keeps, their order, and that Arrow's screens miss nothing."""

import json
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.core.records import POOL, problem_id
from limo_ray.curate.filters import FiltersConfig, mark_filtered, objection

CONFIG = FiltersConfig()
AMC = (
    "What is the value of $\\frac{1}{2}+\\frac14$?\n\n$\\textbf{(A)}\\ \\frac18 \\qquad "
    "\\textbf{(B)}\\ \\frac34 \\qquad\\textbf{(C)}\\ 1 \\qquad\\textbf{(D)}\\ 3 $"
)
ASY = "Find the area. [asy]\ndraw((0,0)--(1,1));\n[/asy]"
# (question, answer, domain, reason)
ROWS = [
    ("Natalia sold clips to 48 of her friends. How many clips did she sell?", "72", "math", None),
    ("Encuentra todos los enteros positivos tales que $n^2 = n$.", "1", "math", "language"),
    ("What is $2+2$, to be exact about it?", "", "math", "answer_unusable"),
    ("Find $x$.", "3", "math", "length"),
    (ASY, "1", "math", "image"),
    ("Find the number at https://example.org/7.", "1", "math", "link"),
    ("Prove that there are infinitely many primes.", "\\infty", "math", "proof"),
    ("Prove that there are infinitely many primes.", "proof", "math", "answer_unusable"),
    ("(a) What is $1+1$? (b) What is $2+2$?", "4", "math", "several_parts"),
    ("Is $91$ a prime number?", "\\text{No}", "math", "yes_no"),
    (AMC, "\\frac{3}{4}", "math", "multiple_choice"),
    # other domains are left to what they are
    ("(a) Who? (b) Where? Prove that.", '{"answer": "A", "options": {}}', "choice", None),
    (ASY, '{"answer": "A", "options": {}}', "choice", "image"),
    ("6*7=", '{"kind": "products"}', "gym", None),
    ("Uryyb jbeyq, guvf vf n pvcure: qrpelcg", '{"kind": "caesar_cipher"}', "gym", None),
    ("Fetch http://x.y and print yes or no", '{"tests": []}', "code", None),
]


def pool(rows, reasons=None):
    reasons = reasons or [None] * len(rows)
    filled = [
        dict.fromkeys(POOL.names)
        | {"id": problem_id(q), "question": q, "answer": a, "domain": d, "line": i, "reason": r}
        for i, ((q, a, d, *_), r) in enumerate(zip(rows, reasons, strict=True))
    ]
    return pa.Table.from_pylist(filled, schema=POOL)


def reason(question, answer="1", domain="math", **settings):
    found = objection(question, answer, domain, FiltersConfig(**settings))
    return found and found[0]


def test_each_filter_drops_its_rows_and_no_others():
    table = pool(ROWS)
    marked = mark_filtered(table, CONFIG)
    assert marked.schema.equals(POOL)
    for before, row, (*_, expected) in zip(
        table.to_pylist(), marked.to_pylist(), ROWS, strict=True
    ):
        if expected is None:
            assert row == before
        else:
            assert (row["stage"], row["reason"]) == ("filters", expected), row
            assert json.loads(row["evidence"])
            none = {"stage": None, "reason": None, "evidence": None}
            assert row | none == before


def test_every_filter_can_be_switched_off():
    off = FiltersConfig(
        language=[],
        min_chars=0,
        max_chars=0,
        images=False,
        links=False,
        proofs=False,
        several_parts=False,
        yes_no=False,
        multiple_choice="keep",
        unusable_answers=False,
    )
    table = pool(ROWS)
    assert mark_filtered(table, off).equals(table)


def test_dropped_rows_are_left_alone_and_further_columns_and_the_order_stay():
    table = pool([ROWS[2], ROWS[4], ROWS[0]], ["invalid", None, None])
    table = table.append_column("order", pa.array([3, 1, 2]))
    marked = mark_filtered(pa.concat_tables([table.slice(0, 1), table.slice(1)]), CONFIG)
    assert marked["reason"].to_pylist() == ["invalid", "image", None]
    assert marked["order"].to_pylist() == [3, 1, 2]
    assert marked["stage"].to_pylist() == [None, "filters", None]
    assert mark_filtered(table.slice(0, 0), CONFIG).num_rows == 0


def test_options_in_the_text_become_a_choice_problem():
    unclear = AMC.replace("\\frac34", "\\frac35")
    table = pool([(AMC, "\\frac{3}{4}", "math"), (unclear, "\\frac{3}{4}", "math")])
    done, left = mark_filtered(table, FiltersConfig(multiple_choice="convert")).to_pylist()
    assert done["domain"] == "choice" and done["reason"] is None
    assert done["question"] == (
        "What is the value of $\\frac{1}{2}+\\frac14$?\n\nA) $\\frac18$\nB) $\\frac34$\nC) 1\nD) 3"
    )
    assert done["id"] == problem_id(done["question"])
    assert json.loads(done["answer"]) == {
        "answer": "B",
        "options": {"A": "$\\frac18$", "B": "$\\frac34$", "C": "1", "D": "3"},
    }
    assert left["reason"] == "multiple_choice" and left["domain"] == "math"
    assert "names none" in json.loads(left["evidence"])["why"]
    kept = mark_filtered(table, FiltersConfig(multiple_choice="keep"))
    assert kept.equals(table)


@pytest.mark.parametrize(
    "answer",
    ["", "  ", "N/A", "n/a.", "None", "null", "not found", "notfound", "Proof", "See solution", "?",
     "---", "$$", "[]", "NaN", "\u3002"],
)  # fmt: skip
def test_missing_answers(answer):
    assert reason("How many apples are there in the box?", answer) == "answer_unusable"


@pytest.mark.parametrize(
    "answer",
    ["0", "x", "\\emptyset", "\u221e", ">", "\\text{none}", "no solution", "\\text{Navin}", "A",
     "nine", "\\pi", "north", "-\u03c0", "truest"],
)  # fmt: skip
def test_answers_that_can_be_used(answer):
    assert reason("How many apples are there in the box?", answer) is None


def test_none_stays_where_the_question_offers_it():
    question = "How many real roots does it have? If there is no root, write none."
    assert reason(question, "none") is None
    assert reason("How many real roots does it have, all in all?", "none") == "answer_unusable"


@pytest.mark.parametrize(
    "answer", ["Yes", "no", "True.", "\\text{Yes}", "$\\textbf{False}$", "(No)", "Yes, it is."]
)
def test_yes_and_no(answer):
    assert reason("Is it possible that all of them are blue?", answer) == "yes_no"
    assert reason("Is it possible that all of them are blue?", answer, yes_no=False) is None


@pytest.mark.parametrize(
    "question, expected",
    [
        ("See the figure: ![](a.png). Find the area.", "image"),
        ("Find the area of the shape. <img src='x.png'>", "image"),
        ("\\includegraphics[width=5cm]{a} Find the area.", "image"),
        ("Find the value of $5![2+3]$ and of $n![n]$.", None),
        ("Find the value given at www.example.com for it.", "link"),
        ("Find the number of letters in the word 'http'.", None),
    ],
)
def test_images_and_links(question, expected):
    assert reason(question) == expected


def test_lengths_are_counted_in_characters():
    question = "How many \u00e9\u00e9\u00e9 are in the box?"
    size = len(question)
    assert reason(question, min_chars=size, max_chars=size) is None
    assert reason(question, min_chars=size + 1, max_chars=0) == "length"
    assert reason(question, max_chars=size - 1) == "length"
    assert reason(question, "9" * 501) == "answer_unusable"
    assert reason(question, "9" * 501, max_answer_chars=0) is None


def test_tokens_are_counted_only_where_bytes_allow_too_many():
    asked = []

    def words(text):
        asked.append(text)
        return len(text.split())

    long = "How many of the " + "very " * 60 + "old ships are there?"
    longer = "How many of the " + "very " * 120 + "old ships are there?"
    rows = [("How many ships are there?", "1", "math"), (long, "1", "math"), (longer, "1", "gym")]
    marked = mark_filtered(pool(rows), FiltersConfig(max_tokens=100), words)
    assert marked["reason"].to_pylist() == [None, None, "too_long"]
    assert asked == [long, longer]
    assert json.loads(marked["evidence"][2].as_py()) == {"tokens": 128, "max_tokens": 100}
    # nobody counts: two bytes to a token
    marked = mark_filtered(pool(rows), FiltersConfig(max_tokens=100))
    assert marked["reason"].to_pylist() == [None, "too_long", "too_long"]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"min_chars": -1}, "min_chars: -1"),
        ({"min_chars": 9, "max_chars": 5}, "max_chars: 5 is less"),
        ({"max_tokens": -3}, "max_tokens: -3"),
        ({"multiple_choice": "drip"}, "multiple_choice: 'drip'"),
        ({"language": ["en", "english"]}, "language: 'english'"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        FiltersConfig(**settings).check()
    FiltersConfig(language=["en", "zh"], max_chars=0, multiple_choice="convert").check()


FRAGMENTS = [
    "(a)", " (b) ", "f(2)", "(ii)", "(i) ", "\n1. ", "\n2. ", "a) ", ". b) ", "$x$", " Prove that ",
    "Find", " the ", "?", "what", "(A)", " (B) ", "A. ", "B. ", "\\textbf{(B)}", " yes", "\u8ba1",
    "\u0444", "![", "[asy]", "http://", "Part A:", " Part B:", " encontrar", " y los", "\x00",
    "\u3001", "show", " \\(", "$ b) ",
]  # fmt: skip
text = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=25).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            text.map(lambda t: t.encode("utf-8", "ignore").decode()),
            st.sampled_from(["1", "yes", "", "?", "none", "B", "\\text{No}", "x", "9" * 501]),
            st.sampled_from(["math", "choice", "gym"]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(
        [
            CONFIG,
            FiltersConfig(multiple_choice="keep", max_tokens=5, min_chars=0),
            FiltersConfig(language=["es"]),
            FiltersConfig(language=[], multiple_choice="convert", min_chars=0),
        ]
    ),
)
def test_the_screens_miss_nothing(rows, config):
    marked = mark_filtered(pool(rows), config).to_pylist()
    for row, (question, answer, domain) in zip(marked, rows, strict=True):
        found = objection(question, answer, domain, config)
        assert row["reason"] == (found and found[0])
        if found:
            assert json.loads(row["evidence"]) == found[1]


HOSTILE = ["(a", "\\", " ", "(a)", "$", "\\(", "a) ", "1. \n", "![", "\\textbf{", "(A)", "A. ",
           "prove ", "[asy", "\\\\text{(", "find the ", "\n", "$ ", "\\qquad", "yes,", "\u8ba1",
           "\x00", "?", "(b)(a)", "part a", "solve each ", "the ", "A) $", "(B) "]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_take_linear_time(unit):
    question = (unit * 100_000)[:100_000]
    config = FiltersConfig(max_chars=0, images=False)
    started = time.thread_time()
    objection("(A) (B) (C) " + question, "B", "math", config)
    objection(question + " (b) find? (2) prove that", question, "math", config)
    mark_filtered(pool([(question, "1", "math")]), config)
    assert time.thread_time() - started < 3
