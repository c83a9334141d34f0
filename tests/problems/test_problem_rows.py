"""Records become rows: paths, templates, numbers, answers, options, conditions, ready mappings."""

import json
from decimal import Decimal

import pytest

from limo_ray.core.records import problem_id
from limo_ray.problems.columns import InvalidRow, holds, lookup, plain_number, text_of
from limo_ray.problems.mappings import READY, Mapping
from limo_ray.problems.problem_rows import EXTRACT, needed_columns, pool_row


def row_of(record, mapping):
    return pool_row(record, mapping, source="s", file="f", line=7)


# One row shaped like each public pool: the record, the question, the answer, the metadata.
SHAPES = {
    "numina_math_cot": (
        {"source": "aops", "problem": "Find $x$.", "solution": "So \\boxed{\\frac{1}{2}}."},
        ("Find $x$.", "\\frac{1}{2}", {"source": "aops"}),
    ),
    "numina_math_1.5": (
        {
            "problem": "Find x.",
            "solution": "...",
            "answer": "3",
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "problem_is_valid": "Yes",
            "solution_is_valid": "Yes",
            "source": "olympiads",
            "synthetic": False,
        },
        (
            "Find x.",
            "3",
            {
                "source": "olympiads",
                "problem_type": "Algebra",
                "question_type": "math-word-problem",
                "synthetic": False,
            },
        ),
    ),
    "deepscaler": ({"problem": "P", "answer": "26", "solution": ""}, ("P", "26", {})),
    "big_math": (
        {"problem": "P", "answer": "5", "source": "orca", "llama8b_solve_rate": 0.25},
        ("P", "5", {"source": "orca", "llama8b_solve_rate": 0.25}),
    ),
    "deepmath": (
        {"question": "Q", "final_answer": "0", "difficulty": 4.5, "topic": "Calculus"},
        ("Q", "0", {"difficulty": 4.5, "topic": "Calculus"}),
    ),
    "open_math_reasoning": (
        {
            "problem": "P",
            "expected_answer": "14",
            "problem_type": "has_answer_extracted",
            "problem_source": "aops",
            "pass_rate_72b_tir": "n/a",
        },
        ("P", "14", {"problem_source": "aops", "pass_rate_72b_tir": "n/a"}),
    ),
    "aime_1983_2023": (
        {"ID": "1983-1", "Year": "1983", "Problem Number": "1", "Question": "Q", "Answer": "60"},
        ("Q", "60", {"ID": "1983-1", "Year": "1983", "Problem Number": "1"}),
    ),
    "hendrycks_math": (
        {"problem": "P", "level": "Level 5", "type": "Algebra", "solution": "is $\\boxed{2}$."},
        ("P", "2", {"level": "Level 5", "type": "Algebra"}),
    ),
    "orz_math": (
        [
            {"from": "human", "value": "Q"},
            {"from": "assistant", "ground_truth": {"value": "\\pi"}},
        ],
        ("Q", "\\pi", {}),
    ),
    "dapo_math": (
        {"prompt": "P", "solution": "34", "data_source": "d"},
        ("P", "34", {"data_source": "d"}),
    ),
    "skywork_or1": (
        {
            "data_source": "train-math",
            "prompt": [{"role": "user", "content": "P"}],
            "reward_model": {"ground_truth": '["\\\\frac{1}{3}"]', "style": "rule"},
            "extra_info": {"index": 0, "model_difficulty": {"R1-7B": 3}},
        },
        (
            "P",
            "\\frac{1}{3}",
            {"data_source": "train-math", "extra_info.model_difficulty": {"R1-7B": 3}},
        ),
    ),
    "openr1_math": (
        {"problem": "P", "answer": "C", "problem_type": "Geometry", "source": "cn"},
        ("P", "C", {"problem_type": "Geometry", "source": "cn"}),
    ),
    "limo": ({"question": "Q", "solution": "long", "answer": 17}, ("Q", "17", {})),
    "s1k": (
        {"question": "Q", "solution": "128", "cot_type": "math", "source_type": "aime"},
        ("Q", "128", {"source_type": "aime", "cot_type": "math"}),
    ),
    "countdown": (
        {"target": 98, "nums": [44, 19, 35]},
        (
            "Using the numbers [44, 19, 35], create an equation that equals 98. You can use basic "
            "arithmetic operations (+, -, *, /) and each number can only be used once.",
            '{"numbers": [44, 19, 35], "target": 98, "use_all": true}',
            {},
        ),
    ),
    "gsm8k": ({"question": "Q", "answer": "a <<1+1=2>>2\n#### 1,080"}, ("Q", "1,080", {})),
    "asdiv": (
        {"body": "Seven red apples.", "question": "How many? ", "answer": "9 (apples)"},
        ("Seven red apples. How many?", "9", {}),
    ),
    "mawps": (
        {"input": "I", "target": 43.0, "type": "singleeq"},
        ("I", "43", {"type": "singleeq"}),
    ),
    "svamp": (
        {"Body": "If he has 14 left", "Question": "How many?", "Answer": 0.1 + 0.2, "Type": "Add"},
        ("If he has 14 left, How many?", "0.3", {"Type": "Add"}),
    ),
    "aqua": (
        {"question": "Q", "options": ["A)5", "B) 6", "C)None of these"], "correct": "B"},
        (
            "Q\n\nA) 5\nB) 6\nC) None of these",
            '{"answer": "B", "options": {"A": "5", "B": "6", "C": "None of these"}}',
            {},
        ),
    ),
}


@pytest.mark.parametrize("name", READY)
def test_ready_mapping_reads_a_row_of_its_pool(name):
    record, (question, answer, metadata) = SHAPES[name]
    row = row_of(record, READY[name])
    assert row["evidence"] is None
    assert (row["question"], row["answer"]) == (question, answer)
    assert json.loads(row["metadata"]) == metadata
    assert row["id"] == problem_id(question)
    assert (row["source"], row["file"], row["line"]) == ("s", "f", 7)
    if isinstance(record, dict):  # the columns that a reader reads are enough
        needed = {key: value for key, value in record.items() if key in needed_columns(READY[name])}
        assert row_of(needed, READY[name]) == row


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("aime_1983_2023", {"Year": 2024}),
        ("aime_1983_2023", {"Year": "unknown"}),
        ("numina_math_1.5", {"problem_is_valid": "Incomplete"}),
        ("numina_math_1.5", {"question_type": "proof"}),
        ("numina_math_1.5", {"answer": "notfound"}),
        ("open_math_reasoning", {"problem_type": "converted_proof"}),
        ("s1k", {"cot_type": "crossword"}),
    ],
)
def test_ready_mapping_does_not_select_what_has_no_checkable_answer(name, change):
    row = row_of(SHAPES[name][0] | change, READY[name])
    assert (row["stage"], row["reason"], row["id"]) == ("sources", "not_selected", "")
    assert json.loads(row["evidence"])["value"] == repr(next(iter(change.values())))


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (27.0, "27"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (3.14159265358979, "3.14159265358979"),
        (1e20, "100000000000000000000"),
        (1.5e-7, "0.00000015"),
        (12345678901234567890, "12345678901234567890"),
        (Decimal("2.50"), "2.5"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_numbers_are_plain_digits_without_noise(value, digits):
    assert plain_number(value, "answer") == digits


def test_paths_go_through_objects_lists_and_names_with_dots():
    record = {"a": {"b": [{"c": 1}, {"c": 2}]}, "x.y": 3, "n": None}
    assert lookup(record, "a.b[1].c", "answer") == 2
    assert lookup(record, "x.y", "answer") == 3
    assert lookup(record, "n.deep", "answer") is None
    for path in ("a.z", "a.b[2].c", "a.b.c", "x.z"):
        with pytest.raises(InvalidRow, match="no column"):
            lookup(record, path, "answer")


def test_templates_join_parts_as_sentences():
    record = {"a": " One.", "b": "Two?", "c": "three", "n": [1, 2]}
    assert text_of(record, "{a} {b}", "question") == "One. Two?"
    assert text_of(record, "{c} {b}", "question") == "three, Two?"
    assert text_of(record, "{c} is {c}", "question") == "three is three"
    assert text_of(record, "{{{n}}} {c}", "answer") == "{[1, 2]} three"
    with pytest.raises(InvalidRow, match="no column 'd'"):
        text_of(record, "{a} {d}", "question")


@pytest.mark.parametrize(
    ("how", "solution", "answer"),
    [
        (
            "boxed",
            "\\boxed{1} is wrong." + " Once more." * 10 + " It is \\boxed{\\frac{a}{b}}!",
            "\\frac{a}{b}",
        ),
        ("boxed_or_text", "12", "12"),
        ("boxed_or_text", "So \\boxed{12}.", "12"),
        ("hashes", "#### 1\nno\n#### 2 ", "2"),
        ("units", "9 (apples)", "9"),
        ("units", "(3, 4)", "(3, 4)"),
        ("units", "14  (seats)", "14"),
        ("json", "[1.0]", "1"),
        ("json", '"x"', "x"),
        ("json", '["1/2", "0.5"]', '["1/2", "0.5"]'),
    ],
)
def test_answers_are_taken_from_solutions(how, solution, answer):
    assert EXTRACT[how](solution, "answer") == answer


@pytest.mark.parametrize(
    ("how", "solution", "words"),
    [
        ("boxed", "no box", "no \\boxed"),
        ("boxed", "\\boxed{1", "not closed"),
        ("boxed_or_text", "\\boxed{}", "empty"),
        ("hashes", "42", "no ####"),
        ("hashes", "a #### \n", "nothing after ####"),
        ("json", "{", "not JSON"),
        ("json", "[]", "an empty list"),
        ("json", '{"a": 1}', "not text or a number but an object"),
        ("json", "[null]", "null"),
    ],
)
def test_a_solution_without_an_answer_says_so(how, solution, words):
    with pytest.raises(InvalidRow) as caught:
        EXTRACT[how](solution, "solution")
    assert words in caught.value.error and caught.value.field == "solution"


@pytest.mark.parametrize(
    ("options", "said", "letter"),
    [
        (["7", "8", "9"], "c", None),
        (["7", "8", "9"], "(C)", "C"),
        (["7", "8", "9"], 2, "C"),
        (["7", "8", "9"], "9", "C"),
        ({"A": "7", "B": "8"}, "B", "B"),
        ({"label": ["1", "2"], "text": ["7", "8"]}, "2", "B"),
        (["A)7", "B)8"], "B", "B"),
        (["A 7", "B)8"], "B", "B"),
        (["7", "8"], 2, None),
        (["7"], "A", None),
        ("7, 8", "A", None),
        (["7", None], "A", None),
    ],
)
def test_multiple_choice_names_the_answer_by_letter(options, said, letter):
    mapping = Mapping(question="q", answer="a", options="o", domain="choice")
    row = row_of({"q": "Q", "o": options, "a": said}, mapping)
    assert row["domain"] == "choice"
    if letter is None:
        assert row["reason"] == "invalid"
    else:
        assert json.loads(row["answer"])["answer"] == letter
        assert row["question"].startswith("Q\n\nA) ")


def test_answers_of_json_domains_may_be_nested():
    mapping = Mapping(question="q", answer="a", domain="countdown")
    gold = {"target": 3, "numbers": [1, 2]}
    assert json.loads(row_of({"q": "Q", "a": gold}, mapping)["answer"]) == gold
    assert json.loads(row_of({"q": "Q", "a": json.dumps(gold)}, mapping)["answer"]) == gold


@pytest.mark.parametrize(
    ("condition", "value", "met"),
    [
        ("v < 2024", 2023, True),
        ("v < 2024", "2023.5", True),
        ("v < 2024", "n/a", False),
        ("v < 2024", None, False),
        ("v >= 0.5", "0.5", True),
        ("v == 5", "5.0", True),
        ("v == 5", True, False),
        ("v == yes", "yes", True),
        ('v == "yes"', "yes", True),
        ("v != proof", "proof", False),
        ("v != proof", None, True),
        ("v == true", True, True),
        ("v == true", 1, False),
        ('v in ["a", 3]', "3", True),
        ('v not in ["a", 3]', "b", True),
        ("v == null", None, True),
    ],
)
def test_conditions(condition, value, met):
    assert holds({"v": value}, condition) == (met, value)


def test_metadata_is_json_whatever_the_columns_hold():
    mapping = Mapping(question="q", answer="a", metadata=["nan", "bytes", "there", "gone"])
    record = {"q": "Q", "a": "1", "nan": float("nan"), "bytes": b"\xff", "there": [1, "\ud800"]}
    kept = json.loads(row_of(record, mapping)["metadata"])
    assert kept == {"nan": None, "bytes": "b'\\xff'", "there": [1, "\ud800"]}
