"""Countdown, by TinyZero's rules."""

import itertools
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.verify import Verdict, show, unverifiable, verify
from limo_ray.verify.countdown import solve


def gold(numbers: list[int], target: int, use_all: bool = True) -> str:
    return json.dumps({"numbers": numbers, "target": target, "use_all": use_all})


@pytest.mark.parametrize(
    ("answer", "completion", "verdict"),
    [
        (gold([4, 6, 8], 16), "<answer>(8 - 4) * 6 - 8</answer>", Verdict.WRONG),  # 8 twice
        (gold([4, 6, 8], 24), "<answer>(8 - 4) * 6</answer>", Verdict.CORRECT),
        (gold([4, 6, 8], 24), "<answer>1</answer> no: <answer>(8-4)*6</answer>", Verdict.CORRECT),
        (gold([4, 6, 8], 24), "\\boxed{(8 - 4) \\times 6}", Verdict.CORRECT),
        (gold([4, 6, 8], 24), "\\boxed{\\left(8 - 4\\right) \\cdot 6 = 24}", Verdict.CORRECT),
        (gold([4, 6, 8], 24), "\\boxed{(8-4)*6 = 25}", Verdict.WRONG),
        (gold([4, 6, 8], 24), "<answer>24</answer>", Verdict.WRONG),
        (gold([4, 6, 8], 24), "I will go:\n(8 - 4) * 6 = 24", Verdict.CORRECT),
        (gold([4, 6, 8], 24), "no idea", Verdict.UNPARSED),
        (gold([4, 6, 8, 1], 24), "<answer>(8 - 4) * 6</answer>", Verdict.WRONG),
        (gold([4, 6, 8, 1], 24, use_all=False), "<answer>(8 - 4) * 6</answer>", Verdict.CORRECT),
        (gold([4, 6], 24, use_all=False), "<answer>4 * 6 * 1</answer>", Verdict.WRONG),
        (gold([1, 3, 7], 2), "\\boxed{(7 - 1) / 3}", Verdict.CORRECT),
        (gold([1, 3, 7], 2), "\\boxed{\\frac{7-1}{3}}", Verdict.CORRECT),
        (gold([3, 3, 8, 8], 24), "<answer>8 / (3 - 8 / 3)</answer>", Verdict.CORRECT),  # fractions
        (gold([1, 5, 2], 3), "<answer>1.5 * 2</answer>", Verdict.WRONG),  # not the numbers 1, 5
        (gold([9, 9, 9], 9), "<answer>9**9**9</answer>", Verdict.WRONG),
        (gold([9, 9], 81), "<answer>9 \u00d7 9</answer>", Verdict.CORRECT),
        (gold([1, 0], 1), "<answer>1 / 0</answer>", Verdict.WRONG),
        (gold([1, 2], 3), "<answer>__import__('os').system('true')</answer>", Verdict.WRONG),
        (gold([1, 2], 3), "<answer>" + "(" * 5000 + "</answer>", Verdict.WRONG),
        (gold([1, 2], 3), "<answer>" + "-" * 499 + "1</answer>", Verdict.WRONG),
        (gold([1, 2], 3), "<answer>1 2</answer>", Verdict.WRONG),
        (gold([1, 2], 3), "<answer>1 if 1 else 2</answer>", Verdict.WRONG),
        ("{}", "<answer>1 + 2</answer>", Verdict.ERROR),
    ],
)
def test_verdicts(answer: str, completion: str, verdict: Verdict) -> None:
    assert verify(answer, completion, "countdown") is verdict


def every_value(numbers: list[int]) -> set[Fraction]:
    """All values of expressions that use all numbers, by brute force."""
    if len(numbers) == 1:
        return {Fraction(numbers[0])}
    values = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
        a, b = numbers[i], numbers[j]
        results = [a + b, a - b, a * b] + ([Fraction(a) / b] if b else [])
        for result in results:
            values |= every_value([*rest, result])  # type: ignore[list-item]
    return values


@given(st.lists(st.integers(0, 12), min_size=2, max_size=4), st.integers(0, 40))
def test_the_solver_finds_a_solution_exactly_when_there_is_one(
    numbers: list[int], target: int
) -> None:
    answer = gold(numbers, target)
    solution = solve(answer)
    assert (solution is not None) == (target in every_value(numbers))
    if solution is not None:
        assert verify(answer, f"\\boxed{{{solution}}}", "countdown") is Verdict.CORRECT


def test_the_solver_takes_six_numbers() -> None:
    answer = gold([25, 50, 75, 100, 3, 6], 952)
    solution = solve(answer)
    assert solution is not None
    assert verify(answer, f"\\boxed{{{solution}}}", "countdown") is Verdict.CORRECT


def test_gold_answers() -> None:
    assert unverifiable(gold([4, 6, 8], 24), "countdown") is None
    assert unverifiable(gold([1, 1], 100), "countdown") == "no solution"
    assert unverifiable(gold([5, 1], 5, use_all=False), "countdown") is None
    for broken in ("", "[]", '{"numbers": [1.5], "target": 1}', '{"numbers": [], "target": 1}'):
        assert unverifiable(broken, "countdown")
    assert show(gold([4, 6, 8], 24), "countdown") == "24 from all of 4, 6, 8"
