r"""Answers read exactly: the part of LaTeX that the fast path is sure of.

`read` understands a part of LaTeX, small enough to be sure of: whole numbers, decimals, fractions,
percentages, mixed numbers, square roots, pi, letters, sums, products, quotients, powers; `x = ...`;
points, intervals, lists and sets of these, matrices. Anything else, and anything that two readers
could read differently, is None: left to the slow path.
"""

import re
from fractions import Fraction
from functools import lru_cache

from limo_ray.verify.exact import Group, Number, Value
from limo_ray.verify.latex_grammar import CLOSING, FRACS, PRODUCTS, Parser
from limo_ray.verify.polynomials import FUNCTIONS, TooHard

LONGEST = 1_000  # characters
REMEMBERED = 200  # characters; longer texts are read again rather than kept

_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?(\s*\\?%)?", re.ASCII)
_FRACTION = re.compile(r"(-?)\\[dtc]?frac\{(-?\d+)\}\{(\d+)\}", re.ASCII)
_MIXED = re.compile(r"(-?)\s*(\d+)\s*\\[dtc]?frac\s*\{(\d+)\}\s*\{(\d+)\}", re.ASCII)
_MATRIX = re.compile(r"\\begin\{([pb])matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)", re.ASCII)
_TOKEN = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)|\\([a-zA-Z]+)|\\(.)|([a-zA-Z])|(\s+)|(.)", re.DOTALL | re.ASCII
)
_AND = re.compile(
    r",?\s*\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\]),?\s*\b(?:and|or)(?![a-zA-Z])"
)
# Words, not products of letters.
_WORD = re.compile(r"(?<![\\a-zA-Z])(?:[a-zA-Z]{4,}|inf|pct)(?![a-zA-Z])")
_UNIT = re.compile(r"\\(?:text|mbox|mathrm|textrm|textbf)\s*\{[^{}]*\}(?:\^\d)?$")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")
_SPACES = {"left", "right", "displaystyle", "quad", "bigl", "bigr", "big", "Big"}
_BEFORE_NUMBERS = PRODUCTS | FRACS | FUNCTIONS | {"sqrt", "pm"}
_SIGNS = set("+-*/^(){}[],=_!|")
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


def read(text: str) -> Value | None:
    """The exact value of an answer, or None for what is not read with certainty."""
    if len(text) > REMEMBERED:
        return cached.__wrapped__(text) if len(text) <= LONGEST else None
    return cached(text)


@lru_cache(maxsize=32768)
def cached(text: str) -> Value | None:
    if number := _NUMBER.fullmatch(text):
        sign, whole, places, percent = number.groups()
        digits = whole.replace(",", "")
        value = Fraction(int(digits))
        if places:
            value = Fraction(int(digits + places), 10 ** len(places))
        size = len(digits) + len(places) if places else 0
        return Number(-value if sign == "-" else value, size, percent is not None)
    fraction = _FRACTION.fullmatch(text)
    if fraction and int(fraction[3]):
        value = Fraction(int(fraction[2]), int(fraction[3]))
        return Number(-value if fraction[1] else value)
    try:
        return _read(text)
    except TooHard:
        return None


def _read(text: str) -> Value:
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix[2])
    text = _AND.sub(",", _DEGREES.sub("", text)).strip()
    bare = _UNIT.sub("", text).rstrip()
    if bare and "\\text" not in bare and "\\math" not in bare:
        text = bare
    mixed = _MIXED.fullmatch(text)
    if mixed and int(mixed[4]):
        value = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
        return Number(-value if mixed[1] else value)
    percent = text.endswith("%")
    if percent:
        text = text[:-1].removesuffix("\\").rstrip()
    if text[:1] not in ("(", "[") and _THOUSANDS.search(text):
        raise TooHard  # "1,234 and 5" may be two numbers or three
    if _WORD.search(text):
        raise TooHard
    if last := _LAST_WORD.search(text):
        word = last[1]
        if {word, word.removesuffix("s"), word.removesuffix("es")} & _UNITS:
            raise TooHard
    tokens = _tokens(text)
    if "\\pm" in tokens:
        # "1 \pm 2" is the set of 3 and -1.
        both = [[sign if t == "\\pm" else t for t in tokens] for sign in ("+", "-")]
        if tokens.count("\\pm") > 1 or "=" in tokens or tokens[0] in ("(", "["):
            raise TooHard
        parts = [Parser(signed).answer() for signed in both]
        items: list[Number | Group] = []
        for part in parts:
            if isinstance(part, Number):
                items.append(part)
            elif isinstance(part, Group):
                items.extend(part.items)
        return Group("{}", tuple(items))
    answer = Parser(tokens).answer()
    if percent:
        if not isinstance(answer, Number) or not isinstance(answer.value, Fraction):
            raise TooHard
        return answer._replace(percent=True)
    return answer


def _matrix(body: str) -> Group:
    """A matrix by its rows; its kind is its shape."""
    rows = [row.split("&") for row in body.strip().removesuffix("\\\\").split("\\\\")]
    if len({len(row) for row in rows}) != 1:
        raise TooHard
    items = [cached(entry.strip()) for row in rows for entry in row]
    if not all(isinstance(item, Number) and not item.percent for item in items):
        raise TooHard
    return Group(f"{len(rows)}x{len(rows[0])}", tuple(i for i in items if isinstance(i, Number)))


def _subscript(tokens: list[str]) -> bool:
    """Whether a subscript in braces has just ended: the base of a logarithm."""
    return tokens[-1:] == ["}"] and len(tokens) > 3 and tokens[-4:-2] == ["_", "{"]


def _tokens(text: str) -> list[str]:
    r"""Numbers, letters, signs, "\name"; TooHard for what stands side by side in two readings."""
    tokens: list[str] = []
    for number, command, escaped, letter, space, other in _TOKEN.findall(text):
        if number:
            # "2 3", "2x 3" and "\sqrt{2}3" are read in more than one way.
            last = tokens[-1] if tokens else ""
            before = last[1:] in _BEFORE_NUMBERS or tokens[-2:-1] == ["_"] or _subscript(tokens)
            if not before and (last[-1:].isalnum() or last in CLOSING or last == "!"):
                raise TooHard
            tokens.append(number)
        elif command:
            if command not in _SPACES:
                tokens.append("\\" + command)
        elif escaped:
            if escaped in "{}":
                tokens.append("\\" + escaped)
            elif escaped not in ",;:! ":
                raise TooHard
        elif letter:
            tokens.append(letter)
        elif not space:
            if other not in _SIGNS:
                raise TooHard
            tokens.append(other)
    return tokens
