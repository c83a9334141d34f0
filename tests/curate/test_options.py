"""Options in the text of a question: every style found, other lists left, the letter named."""

import json

import pytest

from limo_ray.curate.options import as_choice, is_choice, letters, options
from limo_ray.verify import Verdict, verify

STYLES = [
    "What is $1+2$? (A) 1 (B) 2 (C) 3 (D) 4",
    "What is $1+2$?\n(A) 1\n(B) 2\n(C) 3\n(D) 4",
    "What is $1+2$?\nA. 1\nB. 2\nC. 3\nD. 4",
    "What is $1+2$?  A. 1  B. 2  C. 3  D. 4",
    "What is $1+2$?\nA) 1\nB) 2\nC) 3\nD) 4",
    "What is $1+2$?\nA: $1$\nB: $2$\nC: $3$\nD: $4$",
    "What is $1+2$?\n\n$\\textbf{(A)}\\ 1 \\qquad \\textbf{(B)}\\ 2 \\qquad\\textbf{(C)}\\ 3"
    " \\qquad\\textbf{(D)}\\ 4$",
    "What is $1+2$? $\\mathrm{(A)}$ 1 $\\mathrm{(B)}$ 2 $\\mathrm{(C)}$ 3 $\\mathrm{(D)}$ 4",
    "What is $1+2$?\n$\\mathrm{(A) \\ } 1\\qquad \\mathrm{(B) \\ } 2\\qquad \\mathrm{(C) \\ } 3"
    "\\qquad \\mathrm{(D) \\ } 4$",
    "What is $1+2$? $\\text{(A)}\\ 1 \\quad \\text{(B)}\\ 2 \\quad \\text{(C)}\\ 3 \\quad "
    "\\text{(D)}\\ 4$",
    "What is $1+2$?\n**(A)** 1 **(B)** 2 **(C)** 3 **(D)** 4",
    "What is $1+2$? (a) 1 (b) 2 (c) 3 (d) 4",
    "What is $1+2$? (A)$1$ (B)$2$ (C)$3$ (D)$4$",
]


@pytest.mark.parametrize("question", STYLES)
def test_styles(question):
    found = options(question)
    assert found is not None and is_choice(found, "3")
    assert found.stem == "What is $1+2$?"
    assert found.texts == ["1", "2", "3", "4"]
    for gold in ("3", "$3$", "C", "(C)", "\\text{(C)}", "\\textbf{(C) } 3", "C. 3", "3.0"):
        if gold[0] != "C" or found.upper or gold == "C":
            assert letters(found, gold) == ["C"], gold
    text, answer = as_choice(found, "C")
    assert text == "What is $1+2$?\n\nA) 1\nB) 2\nC) 3\nD) 4"
    assert verify(answer, "so \\boxed{C}", "choice") is Verdict.CORRECT
    assert verify(answer, "so \\boxed{3}", "choice") is Verdict.CORRECT
    assert verify(answer, "so \\boxed{B}", "choice") is Verdict.WRONG


@pytest.mark.parametrize(
    "question, answer",
    [
        ("The interval $(a, b)$ and $(A, B)$ have what length?", "3"),
        ("Let $f(A)=1$, $f(B)=2$, $f(C)=3$, $f(D)=4$. Find $f(E)$.", "5"),
        ("Triangle ABC has circumcenter A. Point B is on it. C is not. How long is D?", "3"),
        ("Find all $f$ with (a) $f(1)=1$ (b) $f(2)=2$ (c) $f$ is odd (d) $f$ is one to one.", "x"),
        ("Which are true? (A) $x>1$ (B) $x>2$ (C) $x>3$ (D) $x>4$. How many of them hold?", "2"),
        ("Towns (A), (B) and (C) lie on a line. How far is it from the first to the last?", "9"),
        ("Let (a) be one, (b) be two. Find (a)+(b).", "3"),
    ],
)
def test_other_lists_are_no_options(question, answer):
    found = options(question)
    assert found is None or not is_choice(found, answer)


def test_fractions_units_and_lines_after_the_options():
    question = "How long is it?\n(A) $\\frac{1}{2}$ m\n(B) $0.75$ m\n(C) 1 m\nChoose one."
    found = options(question)
    assert found.texts == ["$\\frac{1}{2}$ m", "$0.75$ m", "1 m"]
    assert found.stem == "How long is it?\nChoose one."
    assert letters(found, "B") == ["B"]
    halves = options("Half of it is (A) $\\frac{1}{4}$ (B) $\\frac12$ (C) $1$ (D) $2$")
    assert letters(halves, "0.5") == ["B"]
    assert letters(halves, "7") == [] and is_choice(halves, "7")


def test_brackets_inside_options_are_no_labels():
    found = options("Which is $a^2-b^2$?\nA. (a + b)(a - b)\nB. (a - b)2\nC. (a + b)2\nD. a3 + b3")
    assert found.texts == ["(a + b)(a - b)", "(a - b)2", "(a + b)2", "a3 + b3"]
    mixed = options("Which? A. (A) and (B) B. neither C. (B) D. none")
    assert len(mixed.texts) == 4


def test_a_letter_that_cannot_be_told():
    found = options("Which of these are even? (A) 2 (B) 3 (C) 4 (D) 2.0")
    assert letters(found, "A, C") == ["A", "C"]
    assert letters(found, "2") == ["A", "D"]
    assert is_choice(found, "A, C") and is_choice(found, "2")


def test_the_form_is_that_of_rows_with_options():
    from limo_ray.problems.mappings import READY
    from limo_ray.problems.problem_rows import pool_row

    record = {"question": "What is $1+2$?", "options": ["1", "2", "3", "4"], "correct": "C"}
    row = pool_row(record, READY["aqua"], source="s", file="f", line=0)
    question, answer = as_choice(options(STYLES[0]), "C")
    assert (question, json.loads(answer)) == (row["question"], json.loads(row["answer"]))
    assert answer == row["answer"]
