"""Rules of our own, where math-verify drops what makes a difference, or accepts too much.

Each is a decision on two answers in standard spelling: True, False, or None where it has no say.
"""

import re
from fractions import Fraction

from limo_ray.verify.exact import Group, Number, compare
from limo_ray.verify.latex_reader import read

_BASED = re.compile(r"([0-9A-F]+)_\{?(\d{1,2})\}?", re.ASCII)
_WORDS = re.compile(r"(\\(?:text|mathrm|mbox)\{)?\s*(\()?([^\W\d_]+(?:[ '-][^\W\d_]+)*)\)?\s*\}?")
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})\s*(?:\\text\s*\{)?\s*([ap])\.?\s?m?\s*[.}]*", re.IGNORECASE | re.ASCII
)
_RELATION = re.compile(r"(<=|>=|\\leq?|\\geq?|\\lt|\\gt|<|>|=)(?![a-zA-Z])")
_PLAIN_SIGNS = {"\\le": "<=", "\\leq": "<=", "\\ge": ">=", "\\geq": ">=", "\\lt": "<", "\\gt": ">"}
_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}


def decide(gold: str, said: str) -> bool | None:
    """The verdict of the first rule that has a say: times, numerals with a base, words, claims."""
    times = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(said)
    if times[0] and times[1]:
        return _minutes(times[0]) == _minutes(times[1])
    numerals = _BASED.fullmatch(gold), _BASED.fullmatch(said)
    if numerals[0] and numerals[1]:
        return numerals[0].groups() == numerals[1].groups()
    if (numerals[0] and said.isdecimal()) or (numerals[1] and gold.isdecimal()):
        return gold.partition("_")[0] == said.partition("_")[0]  # the base may be left out
    texts = words(gold), words(said)
    if texts[0] and texts[1]:
        if texts[0] == texts[1]:
            return True
        # math-verify multiplies bare letters: the same letters in another order are its to judge.
        return False if sorted(texts[0]) != sorted(texts[1]) else None
    for word, text, other in ((texts[0], gold, said), (texts[1], said, gold)):
        if word and text.lower() != word[:1] and _value(other):
            return False  # more than a bare letter, which may stand for a value
    return _statements(gold, said)


def words(text: str) -> str:
    r"""The words that an answer consists of ("\text{(C)}", "no solution"), folded; "" if others."""
    match = _WORDS.fullmatch(text)
    if match is None or bool(match[1]) != text.endswith("}"):
        return ""
    return match[3].casefold()


def _minutes(clock: re.Match[str]) -> int:
    """Minutes after midnight of a time such as "4:30 p.m."."""
    hours, minutes, half = clock.groups()
    return int(hours) % 12 * 60 + int(minutes) + (720 if half.lower() == "p" else 0)


def _statements(gold: str, said: str) -> bool | None:
    """Equations and inequalities between numbers, which are all true: the same ones, in order."""
    a, b = _RELATION.split(gold), _RELATION.split(said)
    if len(a) == 1 and set(b[1::2]) == {"="}:
        # Equations between numbers as the answer to a number: what they come to, the last side.
        value, *_, last = numbers = [read(text.strip()) for text in (gold, *b[::2])]
        return compare(value, last) if value and last and all(map(_rational, numbers)) else None
    if len(a) < 3 or len(b) < 3:
        return None
    sides = [read(side.strip()) for side in a[::2]], [read(side.strip()) for side in b[::2]]
    if not all(_rational(side) for side in [*sides[0], *sides[1]]):
        return None
    signs = [[_PLAIN_SIGNS.get(sign, sign) for sign in x[1::2]] for x in (a, b)]
    if len(a) != len(b):
        return False
    left, right = sides
    if signs[0] != signs[1]:
        signs[1], right = [_MIRROR[sign] for sign in reversed(signs[1])], right[::-1]
    same = [compare(x, y) for x, y in zip(left, right, strict=True) if x and y]
    if signs[0] != signs[1] or False in same:
        return False
    return None if None in same else True


def _value(text: str) -> bool:
    """Whether a text is a number, or several: no word is."""
    value = read(text)
    return isinstance(value, Group) or _rational(value)


def _rational(value: object) -> bool:
    return isinstance(value, Number) and isinstance(value.value, Fraction)
