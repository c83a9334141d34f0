"""Multiple choice: letters and the texts of the options."""

import json

import pytest

from limo_ray.verify import Verdict, show, unverifiable, verify

OPTIONS = {"A": "12", "B": "\\frac{1}{2}", "C": "a dog", "D": "none of these", "E": "$18"}


def gold(letter: str) -> str:
    return json.dumps({"answer": letter, "options": OPTIONS})


@pytest.mark.parametrize(
    ("answer", "completion", "right"),
    [
        ("C", "\\boxed{C}", True),
        ("C", "\\boxed{\\text{(C)}}", True),
        ("C", "\\boxed{\\textbf{C}}", True),
        ("C", "\\boxed{c}", True),
        ("C", "\\boxed{D}", False),
        ("(C)", "The answer is (C).", True),
        ("C", "The answer is (B).", False),
        ("C", "**Answer: C**", True),
        ("C", "so the correct option is\n\nC", True),
        ("C", "Answer: option C", True),
        (gold("B"), "\\boxed{B}", True),
        (gold("B"), "\\boxed{0.5}", True),
        (gold("B"), "\\boxed{(B) \\frac{1}{2}}", True),
        (gold("B"), "\\boxed{B. 0.5}", True),
        (gold("B"), "\\boxed{12}", False),
        (gold("B"), "\\boxed{\\frac{1}{3}}", False),
        (gold("A"), "\\boxed{a dog}", False),  # the text of C, not the letter A
        (gold("C"), "\\boxed{\\text{A dog}}", True),
        (gold("E"), "\\boxed{18}", True),
        (gold("E"), "The answer is E) $18", True),
        (json.dumps({"answer": "12", "options": OPTIONS}), "\\boxed{A}", True),
        (json.dumps({"answer": "B", "options": {"A": "B", "B": "A"}}), "\\boxed{B}", True),
        ("18 apples", "\\boxed{18 apples}", True),
    ],
)
def test_verdicts(answer: str, completion: str, right: bool) -> None:
    expected = Verdict.CORRECT if right else Verdict.WRONG
    assert verify(answer, completion, "choice") is expected


def test_no_answer() -> None:
    assert verify("C", "I cannot say.", "choice") is Verdict.UNPARSED


def test_gold_answers() -> None:
    assert unverifiable(gold("C"), "choice") is None
    assert unverifiable("C", "choice") is None
    assert unverifiable("", "choice") == "empty"
    assert "none of the options" in (unverifiable(gold("Q"), "choice") or "")
    assert "not a choice answer" in (unverifiable('{"answer": "C"}', "choice") or "")
    assert show(gold("A"), "choice") == "A: 12"


def test_a_malformed_gold_answer_is_an_error() -> None:
    assert verify('{"answer": "C"}', "\\boxed{C}", "choice") is Verdict.ERROR
