"""Comparison of values with three outcomes: the fast path in front of math-verify.

EQUAL and DIFFERENT are certain, and what math-verify would say too; UNKNOWN is for it to decide.
`TABLE` says for each two kinds of answers how they are compared, with examples of each outcome.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from flint import acb, arb, fmpq

from limo_ray.verify.values import NARROW, Value

# math-verify compares decimals after rounding to 6 digits. Further apart than this is different
# whatever the rounding; closer than this, but not equal, is left to it.
FAR = fmpq(1, 100_000)
DIGITS = 14  # of a decimal: math-verify keeps 15
ITEMS = 60  # of a set; larger ones are left to the slow path


class Outcome(Enum):
    """Whether two answers are the same."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"

    @staticmethod
    def all(outcomes: "Iterable[Outcome]") -> "Outcome":
        """Of several things that must all be equal."""
        found = set(outcomes)
        if Outcome.DIFFERENT in found:
            return Outcome.DIFFERENT
        return Outcome.UNKNOWN if Outcome.UNKNOWN in found else Outcome.EQUAL

    @staticmethod
    def any(outcomes: "Iterable[Outcome]") -> "Outcome":
        """Of several things one of which must be equal."""
        found = set(outcomes)
        if Outcome.EQUAL in found:
            return Outcome.EQUAL
        return Outcome.UNKNOWN if Outcome.UNKNOWN in found else Outcome.DIFFERENT


EQUAL, DIFFERENT, UNKNOWN = Outcome.EQUAL, Outcome.DIFFERENT, Outcome.UNKNOWN


class Number(NamedTuple):
    """A number, or an expression with letters by its value at one point.

    `decimal` counts the digits of its longest decimal, 0 when it has none; `percent` says that it
    has that sign, which is not in the value.
    """

    value: Value
    letters: bool = False
    decimal: int = 0
    percent: bool = False


class Group(NamedTuple):
    """Several values: (), [], (] or [) with two ends, a set {}, a [list], a union U, a matrix 2x3.

    Two values in round brackets are a point or an interval.
    """

    kind: str
    items: "tuple[Item, ...]"


class Equation(NamedTuple):
    """A letter and what it equals."""

    letter: str
    number: Number


class Statement(NamedTuple):
    """A chain of equations or inequalities: its sides, and the signs between them."""

    sides: tuple[Number, ...]
    signs: tuple[str, ...]


Item = Number | Group | Equation
Answer = Item | Statement
_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}


def compare(gold: Answer, said: Answer) -> Outcome:
    """Whether two answers are the same at the point where they were read."""
    for a in kinds(gold):
        for b in kinds(said):
            if rule := _RULES.get((a, b)):
                return rule(gold, said)
            if rule := _RULES.get((b, a)):
                return rule(said, gold)
    return UNKNOWN


def kinds(answer: Answer) -> tuple[str, ...]:
    """The kinds of an answer, as `TABLE` names them, the narrowest one first."""
    name = type(answer).__name__.lower()
    special = {"{}": "set", "U": "union"}.get(answer.kind) if isinstance(answer, Group) else None
    return (special, name, "answer") if special else (name, "answer")


def _numbers(gold: Number, said: Number) -> Outcome:
    a, b = gold.value, said.value
    decimal = max(gold.decimal, said.decimal)
    exact = isinstance(a, fmpq) and isinstance(b, fmpq)
    if gold.percent or said.percent:
        if not exact or gold.letters or said.letters:
            return UNKNOWN
        # 50% is 1/2 and 0.5, and also 50: a whole percentage may leave its sign out.
        # (math-verify does not see it so for negative ones.)
        if a == b and not decimal and isinstance(a, fmpq) and a.q == 1:
            return EQUAL if a >= 0 or gold.percent == said.percent else UNKNOWN
        a = a / 100 if gold.percent else a
        b = b / 100 if said.percent else b
        if a == b:
            return UNKNOWN if decimal else EQUAL
    elif exact and a == b:
        return EQUAL if decimal <= DIGITS else UNKNOWN
    if decimal:
        return DIFFERENT if _far(a, b) else UNKNOWN
    if exact:
        return DIFFERENT
    x, y = acb(a), acb(b)
    if not x.overlaps(y):
        return DIFFERENT
    return EQUAL if x.rad() < NARROW and y.rad() < NARROW and x.is_finite() else UNKNOWN


def _far(a: Value, b: Value) -> bool:
    """Whether two values are further apart than math-verify's rounding explains."""
    limit = arb(FAR) * max(arb(1), abs(acb(a)))
    return bool(abs(acb(a) - acb(b)) > limit)


def _equations(gold: Equation, said: Equation) -> Outcome:
    if gold.letter == said.letter:
        return compare(gold.number, said.number)
    plain = all(isinstance(e.number.value, fmpq) and not e.number.letters for e in (gold, said))
    return DIFFERENT if plain else UNKNOWN


def _equation_and_number(equation: Equation, number: Number) -> Outcome:
    return compare(equation.number, number)


def _sets(gold: Group, said: Group) -> Outcome:
    if len(gold.items) > ITEMS or len(said.items) > ITEMS:
        return UNKNOWN
    table = [[compare(a, b) for b in said.items] for a in gold.items]
    columns = zip(*table, strict=True)
    return Outcome.all([Outcome.any(row) for row in (*table, *columns)])


def _unions(gold: Group, said: Group) -> Outcome:
    # They may overlap, or be in another order.
    return EQUAL if _groups(gold, said) is EQUAL else _group_and_answer(gold, said)


def _group_and_answer(group: Group, answer: Answer) -> Outcome:
    """DIFFERENT when no number of the one, however deep, may be one of the other."""
    if isinstance(answer, Statement) and any(side.letters for side in answer.sides):
        return UNKNOWN  # an inequality in letters may be solved, and be the interval
    a, b = _leaves(group), _leaves(answer)
    if len(a) > ITEMS or len(b) > ITEMS:
        return UNKNOWN
    return DIFFERENT if all(compare(x, y) is DIFFERENT for x in a for y in b) else UNKNOWN


def _leaves(answer: Answer) -> list[Number]:
    if isinstance(answer, Group):
        return [leaf for item in answer.items for leaf in _leaves(item)]
    if isinstance(answer, Statement):
        return list(answer.sides)
    return [answer.number if isinstance(answer, Equation) else answer]


def _statement_and_number(statement: Statement, number: Number) -> Outcome:
    """Equations between numbers come to their last side."""
    outcomes = [compare(side, number) for side in statement.sides]
    closed = not any(side.letters for side in (*statement.sides, number))
    if closed and set(statement.signs) == {"="} and outcomes[-1] is EQUAL:
        return EQUAL
    return DIFFERENT if set(outcomes) == {DIFFERENT} else UNKNOWN


def _statements(gold: Statement, said: Statement) -> Outcome:
    """The same sides in the same order, or all of it mirrored."""
    sides, signs = said.sides, said.signs
    if gold.signs != signs:
        sides, signs = sides[::-1], tuple(_MIRROR[sign] for sign in reversed(signs))
    outcome = DIFFERENT
    if gold.signs == signs:
        outcome = Outcome.all([compare(a, b) for a, b in zip(gold.sides, sides, strict=True)])
    letters = any(side.letters for side in (*gold.sides, *sides))
    return UNKNOWN if letters and outcome is DIFFERENT else outcome


def _groups(gold: Group, said: Group) -> Outcome:
    """The same brackets or shape and the same values in order."""
    if gold.kind != said.kind:
        shapes = gold.kind[0].isdigit() and said.kind[0].isdigit()
        return DIFFERENT if shapes else _group_and_answer(gold, said)
    if len(gold.items) != len(said.items):
        return DIFFERENT
    return Outcome.all([compare(a, b) for a, b in zip(gold.items, said.items, strict=True)])


class Row(NamedTuple):
    """How answers of two kinds are compared, in either order, with an example of each outcome."""

    kinds: tuple[str, str]
    rule: Callable[..., Outcome]
    equal: tuple[str, str] | None = None
    different: tuple[str, str] | None = None
    unknown: tuple[str, str] | None = None


TABLE = (
    Row(("number", "number"), _numbers, ("1/2", "0.5"), ("7", "7x"), ("1/3", "0.333333")),
    Row(("equation", "equation"), _equations, ("x=5", "x=5.0"), ("x=5", "y=5"), ("y=2x", "x=y/2")),
    Row(
        ("equation", "number"),
        _equation_and_number,
        ("x=5", "5"),
        ("x=5", "6"),
        ("x=1/3", "0.333333"),
    ),
    Row(
        ("statement", "number"),
        _statement_and_number,
        ("3+1=2+2=4", "4"),
        ("x < 5", "6"),
        ("x < 5", "5"),
    ),
    Row(
        ("statement", "statement"),
        _statements,
        ("x < 3", "3 > x"),
        ("1 < 2", "1 < 3"),
        ("2x < 6", "x < 3"),
    ),
    Row(
        ("set", "set"),
        _sets,
        ("1, 2", "\\{2, 1\\}"),
        ("1, 2", "1, 2, 3"),
        ("1, 1/3", "1, 0.333333"),
    ),
    Row(
        ("union", "union"),
        _unions,
        ("(0,1)\\cup(2,3)", "(0,1)\\cup(2,3)"),
        ("(0,1)\\cup(2,3)", "(4,5)\\cup(6,7)"),
        ("(0,1)\\cup(2,3)", "(2,3)\\cup(0,1)"),
    ),
    Row(
        ("group", "group"),
        _groups,
        ("(0.5, 1]", "(1/2, 1]"),
        ("1, 2", "(3, 4)"),
        ("1, 2", "(1, 2)"),
    ),
    Row(("group", "answer"), _group_and_answer, None, ("[3, 4]", "x=5"), ("3, 4", "3")),
)
_RULES = {row.kinds: row.rule for row in TABLE}
