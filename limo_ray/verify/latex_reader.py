r"""Answers read with certainty: the part of LaTeX that the fast path is sure of.

`read` understands whole numbers, decimals, fractions, percentages, mixed numbers, and expressions
of the grammar in `latex_grammar`; `x = ...`; points, intervals, unions, lists and sets of these,
matrices. Anything else, and anything that two readers could read differently, is None: left to the
slow path.
"""

import re
from collections.abc import Collection
from functools import lru_cache

from flint import fmpq

from limo_ray.verify.exact import (
    Answer,
    Equation,
    Group,
    Item,
    Number,
    Outcome,
    Statement,
    compare,
)
from limo_ray.verify.latex_grammar import LETTERS, Parser
from limo_ray.verify.values import INFINITY, Unsure, real

LONGEST = 1_000  # characters

_NUMBER = re.compile(r"([-+]?)([1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.(\d+))?(\s*\\?%)?", re.ASCII)
_FRACTION = re.compile(r"(-?)\s*(\d*)\s*\\[dtc]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}", re.ASCII)
_MATRIX = re.compile(r"\\begin\{([pb])matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)", re.ASCII)
_AND = re.compile(
    r",?\s*\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\]),?\s*\b(?:and|or)(?![a-zA-Z])"
)
# Words, not products of letters.
_WORD = re.compile(r"(?<![\\a-zA-Z])(?:[a-zA-Z]{4,}|inf|pct)(?![a-zA-Z])")
_UNIT = re.compile(r"\\(?:text|mbox|mathrm|textrm|textbf)\s*\{[^{}]*\}(?:\^\d)?$")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")
_SIZES = re.compile(r"\\(?:left|right|bigl|bigr|big|Big)(?![a-zA-Z])")
_RELATION = re.compile(r"(<=|>=|\\(?:leq?|geq?|lt|gt)(?![a-zA-Z])|<|>|=)")
_SIGNS = {"\\le": "<=", "\\leq": "<=", "\\ge": ">=", "\\geq": ">=", "\\lt": "<", "\\gt": ">"}
_MEMBER = re.compile(r"[a-z]\s*\\in(?![a-zA-Z])\s*(?=[(\[])")  # "x \in [1, 2]"
_SEPARATOR = re.compile(r"(?<!\\)[,;]")
_BRACKET = re.compile(r"\\cup(?![a-zA-Z])|\\.|[{}()\[\],;]", re.DOTALL)
# What math-verify takes for a unit when it stands last after a digit, a brace or a space: "4t" and
# "2ab" may be read as 4 and 2.
_LAST_WORD = re.compile(r"[0-9}\s]([a-zA-Z]+)$")
_UNITS = frozenset(
    """ab acre am apple are bc by c cc cent cm coin cube cubic d day deg degree digit dm east edge
    excess feet ft g gain gal gallon gm h hectare hour hr inch increase decrease inches kg km kmh
    kmph l lb less liter litre loss lt m man mark meal men meter metre mile min minute minw mm
    monkey month more mp mph mt mtr multiple noon number o ohm per pie pm pound prime profit pure
    ratio rd rise rounds rs rupee s sec second soldier sq square st student sue t th tile toy unit
    way west woman women yard year yr Surface""".split()  # noqa: SIM905
)


@lru_cache(maxsize=4096)
def read(text: str, point: int = 0) -> Answer | None:
    """The value of an answer at a point, or None for what is not read with certainty."""
    if len(text) > LONGEST:
        return None
    try:
        return _plain(text) or _read(text, point)
    except Unsure:
        return None


def compare_texts(gold: str, said: str) -> Outcome:
    """Whether two answers are the same, where both can be read.

    A difference at one point is one. The same values at a point where all letters are positive may
    be an accident of signs, |x| and x: they must be the same where letters are complex too.
    """
    a, b = read(gold), read(said)
    if a is None or b is None:
        return Outcome.UNKNOWN
    outcome = compare(a, b)
    if outcome is Outcome.EQUAL and not (is_rational(a) and is_rational(b)):
        a, b = read(gold, 1), read(said, 1)
        if a is None or b is None or compare(a, b) is not Outcome.EQUAL:
            return Outcome.UNKNOWN
    return outcome


def is_rational(answer: Answer | None) -> bool:
    """Whether an answer is one rational number."""
    if not isinstance(answer, Number):
        return False
    return isinstance(answer.value, fmpq) and not answer.letters


def _plain(text: str) -> Number | None:
    """A whole number, decimal, percentage, fraction of whole numbers, or mixed number."""
    if number := _NUMBER.fullmatch(text):
        sign, whole, places, percent = number.groups()
        digits = whole.replace(",", "")
        size = len(digits) + len(places) if places else 0
        value = fmpq(int(digits + (places or "")), 10 ** len(places or ""))
        return Number(-value if sign == "-" else value, False, size, percent is not None)
    fraction = _FRACTION.fullmatch(text)
    if fraction and int(fraction[4]) and not (fraction[2] and fraction[3][0] == "-"):
        value = int(fraction[2] or 0) + fmpq(int(fraction[3]), int(fraction[4]))
        return Number(-value if fraction[1] else value)
    return None


def _read(text: str, point: int) -> Answer:
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix[2], point)
    text = _AND.sub(",", _SIZES.sub("", _DEGREES.sub("", text))).strip()
    bare = _UNIT.sub("", text).rstrip()
    if bare and "\\text" not in bare and "\\math" not in bare:
        text = bare
    percent = text.endswith("%")
    if percent:
        text = text[:-1].removesuffix("\\").rstrip()
    if text[:1] not in ("(", "[") and _THOUSANDS.search(text):
        raise Unsure  # "1,234 and 5" may be two numbers or three
    if _WORD.search(text):
        raise Unsure
    if last := _LAST_WORD.search(text):
        word = last[1]
        if {word, word.removesuffix("s"), word.removesuffix("es")} & _UNITS:
            raise Unsure  # a number with its unit, or a product
    answer = _answer(_MEMBER.sub("", text), point)
    if percent:
        if not isinstance(answer, Number) or not is_rational(answer):
            raise Unsure
        return answer._replace(percent=True)
    return answer


def _answer(text: str, point: int) -> Answer:
    """A set or list with commas, a union, a point, an interval, a statement, or a number."""
    items = [signed for item in _split(text) for signed in _signs(item)]
    if len(items) > 1:
        return Group("{}", _items(items, point))
    intervals = _split(text, ["\\cup"])
    if len(intervals) > 1:
        several = _items(intervals, point)
        if not all(isinstance(item, Group) for item in several):
            raise Unsure
        return Group("U", several)
    if text.startswith("\\{") and text.endswith("\\}"):
        inside = [signed for item in _split(text[2:-2]) for signed in _signs(item)]
        return Group("{}", _items(inside, point))
    sides = _RELATION.split(text)
    if len(sides) > 1:
        return _statement(sides, point)
    if text[:1] not in ("(", "[") or text[-1] not in ")]" or not _SEPARATOR.search(text):
        return _number(text, point)
    return _bracketed(text, point)


def _items(texts: list[str], point: int) -> tuple[Item, ...]:
    items = [_answer(text, point) for text in texts]
    found = tuple(item for item in items if isinstance(item, Number | Group | Equation))
    if len(found) < len(items):
        raise Unsure
    return found


def _signs(text: str) -> list[str]:
    r"""The two values of "1 \pm 2"; else the text itself."""
    if text.count("\\pm") != 1 or text[:1] in "([":
        return [text]
    return [text.replace("\\pm", sign) for sign in ("+", "-")]


def _statement(sides: list[str], point: int) -> Equation | Statement:
    """`x = 5`, or a chain of equations or inequalities."""
    first = sides[0].strip().lower()
    signs = tuple(_SIGNS.get(sign, sign) for sign in sides[1::2])
    if signs == ("=",) and first in LETTERS:
        return Equation(first, _number(sides[2].strip(), point))
    return Statement(tuple(_number(side.strip(), point) for side in sides[::2]), signs)


def _bracketed(text: str, point: int) -> Group:
    """A point, an interval, or a list in square brackets."""
    items = _items(_split(text[1:-1]), point)
    if len(items) == 1:
        raise Unsure
    kind = text[0] + text[-1]
    if kind != "()":
        # math-verify takes [2, 1) for the empty set, the same as any other.
        ends = [real(item.value) for item in items if isinstance(item, Number)]
        if len(items) != 2 or len(ends) != 2 or not ends[0] < ends[1]:
            if kind != "[]":
                raise Unsure
            kind = "[list]"
    return Group(kind, items)


def _split(text: str, separators: Collection[str] = ",;") -> list[str]:
    """What stands between separators that are in no bracket."""
    items, start, depth = [], 0, 0
    for match in _BRACKET.finditer(text):
        token = match[0]
        if token in ("(", "[", "{", "\\{"):
            depth += 1
        elif token in (")", "]", "}", "\\}"):
            depth -= 1
            if depth < 0:
                raise Unsure
        elif token in separators and not depth:
            items.append(text[start : match.start()].strip())
            start = match.end()
    return [*items, text[start:].strip()]


def _number(text: str, point: int) -> Number:
    if number := _plain(text):
        return number
    if text.lstrip("+-").strip() == "\\infty":
        return Number(-INFINITY if text[0] == "-" else INFINITY)
    parser = Parser(text, point)
    value = parser.value()
    return Number(value, bool(parser.letters), parser.decimal)


def _matrix(body: str, point: int) -> Group:
    """A matrix by its rows; its kind is its shape."""
    rows = [row.split("&") for row in body.strip().removesuffix("\\\\").split("\\\\")]
    if len({len(row) for row in rows}) != 1:
        raise Unsure
    items = tuple(_number(entry.strip(), point) for row in rows for entry in row)
    if any(item.percent for item in items):
        raise Unsure
    return Group(f"{len(rows)}x{len(rows[0])}", items)
