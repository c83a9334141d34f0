"""Exact comparison of values: the fast path in front of math-verify, which it must agree with.

`compare` is None wherever only an algebra system, or math-verify's own way of rounding, can say.
"""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from limo_ray.verify.polynomials import Applied, Ratio, TooHard

# math-verify compares decimals after rounding to 6 places. Further apart than this is different
# whatever the rounding; closer than this, but not equal, is left to it.
FAR = Fraction(1, 100_000)
DIGITS = 14  # of a decimal: math-verify keeps 15
CLEAR = 1e-4  # difference of two values, relative to them, that no rounding explains
ITEMS = 60  # of a set; larger ones are left to the slow path


class Number(NamedTuple):
    """A number or rational function.

    `decimal` counts the digits of its longest decimal, 0 when it has none; `percent` says that it
    has that sign, which is not in the value.
    """

    value: Ratio | Fraction
    decimal: int = 0
    percent: bool = False


class Group(NamedTuple):
    """Several values: a point or interval by its brackets, a set {}, a union U, a matrix 2x3."""

    kind: str
    items: "tuple[Number | Group, ...]"


class Equation(NamedTuple):
    """A letter and what it equals."""

    letter: str
    number: Number


Value = Number | Group | Equation


def approximate(number: Number) -> float | None:
    """The value as a float; None when it has letters or is too large."""
    value = number.value
    if isinstance(value, Ratio):
        return value.approximate()
    return float(value) if value.numerator.bit_length() < 1000 else None


def compare(gold: Value, said: Value) -> bool | None:
    """Whether two values are the same; None where that is for the slow path to say."""
    try:
        if isinstance(gold, Equation) or isinstance(said, Equation):
            return _compare_equations(gold, said)
        return _compare(gold, said)
    except TooHard:
        return None


def _compare_equations(gold: Value, said: Value) -> bool | None:
    """`x = 5` against `x = 5` or 5."""
    if isinstance(gold, Equation) and isinstance(said, Equation):
        if gold.letter == said.letter:
            return _compare_numbers(gold.number, said.number)
        plain = isinstance(gold.number.value, Fraction) and isinstance(said.number.value, Fraction)
        return False if plain else None
    left = gold.number if isinstance(gold, Equation) else gold
    right = said.number if isinstance(said, Equation) else said
    if isinstance(left, Number) and isinstance(right, Number):
        return _compare_numbers(left, right)
    return None


def _compare(gold: Number | Group, said: Number | Group) -> bool | None:
    if isinstance(gold, Number) and isinstance(said, Number):
        return _compare_numbers(gold, said)
    if isinstance(gold, Group) and isinstance(said, Group):
        return _compare_groups(gold, said)
    group = gold if isinstance(gold, Group) else said
    assert isinstance(group, Group)
    if group.kind != "{}":  # a number is no point, no interval, no matrix
        return False if group.kind != "1x1" else None
    number = said if group is gold else gold
    if all(_compare(number, item) is False for item in group.items):
        return False
    first, *others = group.items
    different = any(_compare(first, other) is False for other in others)
    return False if different else None


def _compare_groups(gold: Group, said: Group) -> bool | None:
    if gold.kind == said.kind == "{}":
        if len(gold.items) > ITEMS or len(said.items) > ITEMS:
            return None
        return _all([_covers(gold.items, said.items), _covers(said.items, gold.items)])
    if gold.kind != said.kind:
        return False if gold.kind[0].isdigit() and said.kind[0].isdigit() else None
    same = len(gold.items) == len(said.items) and _all(
        _compare(a, b) for a, b in zip(gold.items, said.items, strict=True)
    )
    if gold.kind == "U" and not (same or (_apart(gold.items) and _apart(said.items))):
        return None  # overlapping, or in another order
    return same


def _apart(intervals: tuple[Number | Group, ...]) -> bool:
    """Whether intervals stand in order with gaps between them, which makes their union unique."""
    last, closed = -math.inf, True
    for interval in intervals:
        if not isinstance(interval, Group) or interval.kind not in ("()", "[]", "(]", "[)"):
            return False
        start, end = (approximate(i) if isinstance(i, Number) else None for i in interval.items[:2])
        if start is None or end is None or start >= end or start < last:
            return False
        if start == last and (closed or interval.kind[0] == "[") and start != -math.inf:
            return False
        last, closed = end, interval.kind[1] == "]"
    return True


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True


def _covers(some: tuple[Number | Group, ...], others: tuple[Number | Group, ...]) -> bool | None:
    """Whether each of some values is among the others."""
    verdicts: list[bool | None] = []
    for a in some:
        found = [_compare(a, b) for b in others]
        verdicts.append(True if True in found else None if None in found else False)
    return _all(verdicts)


def _compare_numbers(gold: Number, said: Number) -> bool | None:
    a, b = gold.value, said.value
    decimal = max(gold.decimal, said.decimal)
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        if gold.percent or said.percent:
            # 50% is 1/2 and 0.5, and also 50: a whole percentage may leave its sign out.
            # (math-verify does not see it so for negative ones.)
            if a == b and a.denominator == 1 and not decimal:
                return True if a >= 0 or gold.percent == said.percent else None
            a = a / 100 if gold.percent else a
            b = b / 100 if said.percent else b
        if a == b:
            sure = decimal <= DIGITS and not (decimal and (gold.percent or said.percent))
            return True if sure else None
        return None if decimal and abs(a - b) < FAR * max(Fraction(1), abs(a)) else False
    if gold.percent or said.percent:
        return None
    left = Ratio.number(a) if isinstance(a, Fraction) else a
    right = Ratio.number(b) if isinstance(b, Fraction) else b
    if left.same(right):
        return True if decimal <= DIGITS else None
    letters = left.letters() | right.letters()
    if {"e", "E_"} <= letters:
        return None
    if any(isinstance(name, Applied) or name == "e" for name in letters):
        return False if _differ(left, right) else None
    if not decimal:
        return False
    x, y = approximate(gold), approximate(said)
    if x is None or y is None:
        return None
    return False if abs(x - y) > float(FAR) * max(1.0, abs(x)) else None


def _differ(left: Ratio, right: Ratio) -> bool:
    """Whether two values with functions in them are certainly not the same."""
    for point in ("1", "2"):
        x, y = left.approximate(point), right.approximate(point)
        if x is None or y is None:
            return False
        if abs(x - y) > CLEAR * max(1.0, abs(x), abs(y)):
            return True
    return False
