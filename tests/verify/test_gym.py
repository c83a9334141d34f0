"""reasoning_gym's problems, by its own scorers, without its eval()."""

import json
import sys

import pytest

from limo_ray.verify import Verdict, show, unverifiable, verify

reasoning_gym = pytest.importorskip("reasoning_gym")


def gold(kind: str, answer: str | None, **metadata: object) -> str:
    return json.dumps({"kind": kind, "answer": answer, "metadata": metadata})


@pytest.mark.parametrize(
    ("answer", "completion", "verdict"),
    [
        (gold("gcd", "12"), "\\boxed{12}", Verdict.CORRECT),
        (gold("gcd", "12"), "\\boxed{13}", Verdict.WRONG),
        (gold("gcd", "1200"), "\\boxed{1,200}", Verdict.CORRECT),
        (gold("gcd", "12"), "so the answer is 12.", Verdict.CORRECT),
        (gold("gcd", "12"), "<answer>12</answer>", Verdict.CORRECT),
        (gold("gcd", "12"), "hm", Verdict.UNPARSED),
        (gold("coin_flip", "0.5"), "\\boxed{1/2}", Verdict.CORRECT),
        (gold("letter_counting", "3"), "\\boxed{\\text{3}}", Verdict.CORRECT),
        (gold("spiral_matrix", "1 2 3"), "\\boxed{1 2 3}", Verdict.CORRECT),
        (gold("spiral_matrix", "1 2 3"), "\\boxed{[1, 2, 3]}", Verdict.WRONG),
        (gold("polynomial_multiplication", "x**2 + x"), "\\boxed{x^2 + x}", Verdict.CORRECT),
        (gold("polynomial_multiplication", "x**2 + x"), "\\boxed{x*x + 2*x}", Verdict.WRONG),
        (
            gold("puzzle24", "(8-4)*6*1", numbers=[8, 4, 6, 1]),
            "\\boxed{6*(8-4)*1}",
            Verdict.CORRECT,
        ),
        ("no json", "\\boxed{12}", Verdict.ERROR),
        (gold("no such kind", "1"), "\\boxed{12}", Verdict.ERROR),
        (gold("countdown", "1+2", numbers=[1, 2]), "\\boxed{2+1}", Verdict.WRONG),
    ],
)
def test_verdicts(answer: str, completion: str, verdict: Verdict) -> None:
    assert verify(answer, completion, "gym") is verdict


KINDS = [
    "gcd",
    "basic_arithmetic",
    "word_sorting",
    "n_queens",
    "simple_integration",
    "sudoku",
    "rearc",
]
KINDS += ["prime_factorization", "puzzle24", "number_sorting", "spiral_matrix", "leg_counting"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_answers_are_accepted(kind: str) -> None:
    entry = reasoning_gym.create_dataset(kind, size=1, seed=3)[0]
    answer = json.dumps(
        {"kind": kind, "answer": entry["answer"], "metadata": entry["metadata"]}, default=str
    )
    assert unverifiable(answer, "gym") is None
    assert verify(answer, f"\\boxed{{{entry['answer']}}}", "gym") is Verdict.CORRECT
    assert verify(answer, "\\boxed{certainly not}", "gym") is Verdict.WRONG
    assert show(answer, "gym") == entry["answer"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "not a gym answer"),
        (gold("no such kind", "1"), "no such kind"),
        (gold("gcd", None), "no gold answer"),
        (gold("gcd", ""), "not accepted"),
        (gold("simple_integration", "X**2"), "not accepted"),  # no integrand to compare with
        (gold("sudoku", "1"), "failed"),
    ],
)
def test_gold_answers_that_cannot_be_used(answer: str, reason: str) -> None:
    assert reason in (unverifiable(answer, "gym") or "fine")


def test_nothing_in_an_answer_is_evaluated() -> None:
    """Scorers that eval() or parse_expr() an answer never get to see code."""
    code = "__import__('sys').modules.setdefault('canary', 1)"
    cases = [("spiral_matrix", "1"), ("n_queens", "1"), ("binary_matrix", "1"), ("puzzle24", "1")]
    cases += [("string_insertion", "1"), ("polynomial_multiplication", "x"), ("countdown", "1")]
    cases += [("simple_integration", "X"), ("intermediate_integration", "X")]
    cases += [("number_sorting", code), ("polynomial_multiplication", code), ("gcd", code)]
    for kind, answer in cases:
        for integrand in ("X", code):
            row = gold(kind, answer, numbers=[1], target=1, variable="X", integrand=integrand)
            for said in (code, f"[{code}]", f"x + {code}", "x"):
                verify(row, f"\\boxed{{{said}}}", "gym")
    assert "canary" not in sys.modules
    eval(code)
    assert sys.modules.pop("canary") == 1, "the test itself is broken"
