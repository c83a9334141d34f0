"""Rules of our own, where math-verify drops what makes a difference, or accepts too much.

Each is a decision on two answers in standard spelling, EQUAL, DIFFERENT or UNKNOWN; `RULES` lists
them in the order in which they are asked, with examples.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from flint import acb, fmpq

from limo_ray.verify.exact import DIFFERENT, EQUAL, UNKNOWN, Group, Number, Outcome
from limo_ray.verify.latex_reader import read

_BASED = re.compile(r"([0-9A-F]+)_\{?(\d{1,2})\}?", re.ASCII)
_WORDS = re.compile(r"(\\(?:text|mathrm|mbox)\{)?\s*(\()?([^\W\d_]+(?:[ '-][^\W\d_]+)*)\)?\s*\}?")
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})\s*(?:\\text\s*\{)?\s*([ap])\.?\s?m?\s*[.}]*", re.IGNORECASE | re.ASCII
)
# Chinese or Japanese, of which math-verify reads nothing, the numbers in it included.
_PROSE = re.compile(r"[^\\]*[\u3040-\u9fff][^\\]*")


def decide(gold: str, said: str) -> Outcome:
    """The outcome of the first rule that is sure."""
    for rule in RULES:
        outcome = rule.decide(gold, said)
        if outcome is not UNKNOWN:
            return outcome
    return UNKNOWN


def _equal(same: bool) -> Outcome:
    return EQUAL if same else DIFFERENT


def _times(gold: str, said: str) -> Outcome:
    clocks = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(said)
    if not clocks[0] or not clocks[1]:
        return UNKNOWN
    return _equal(_minutes(clocks[0]) == _minutes(clocks[1]))


def _minutes(clock: re.Match[str]) -> int:
    """Minutes after midnight of a time such as "4:30 p.m."."""
    hours, minutes, half = clock.groups()
    return int(hours) % 12 * 60 + int(minutes) + (720 if half.lower() == "p" else 0)


def _numerals(gold: str, said: str) -> Outcome:
    numerals = _BASED.fullmatch(gold), _BASED.fullmatch(said)
    if numerals[0] and numerals[1]:
        return _equal(numerals[0].groups() == numerals[1].groups())
    if (numerals[0] and said.isdecimal()) or (numerals[1] and gold.isdecimal()):
        return _equal(gold.partition("_")[0] == said.partition("_")[0])  # the base may be left out
    value = read(said if numerals[0] else gold) if any(numerals) else None
    # A numeral is a whole number, without letters.
    other = isinstance(value, Group) or (
        isinstance(value, Number) and (value.letters or not _is_whole(value))
    )
    return DIFFERENT if other else UNKNOWN


def _is_whole(number: Number) -> bool:
    return isinstance(number.value, fmpq) and number.value.q == 1


def words(text: str) -> str:
    r"""The words that an answer consists of ("\text{(C)}", "no solution"), folded; "" if others."""
    match = _WORDS.fullmatch(text)
    if match is None or bool(match[1]) != text.endswith("}"):
        return ""
    return match[3].casefold()


def _both_words(gold: str, said: str) -> Outcome:
    a, b = words(gold), words(said)
    if not a or not b:
        return UNKNOWN
    if a == b:
        return EQUAL
    # math-verify multiplies bare letters: the same letters in another order are its to judge.
    return DIFFERENT if sorted(a) != sorted(b) else UNKNOWN


def _words_and_value(gold: str, said: str) -> Outcome:
    for text, other in ((gold, said), (said, gold)):
        # More than a bare letter, which may stand for a value.
        worded = words(text) and not (len(text) == 1 and text.isascii())
        if worded or _PROSE.fullmatch(text):
            value = read(other)
            if isinstance(value, Group) or (
                isinstance(value, Number) and not value.letters and acb(value.value).is_finite()
            ):
                return DIFFERENT
    return UNKNOWN


class Rule(NamedTuple):
    """A rule with (gold, said, outcome) examples."""

    decide: Callable[[str, str], Outcome]
    examples: tuple[tuple[str, str, Outcome], ...]


RULES = (
    Rule(
        _times,
        (("4:30 p.m.", "4:30 \\text{ PM}", EQUAL), ("4:30 p.m.", "4:30 a.m.", DIFFERENT)),
    ),
    Rule(
        _numerals,
        (
            ("52_8", "52_{8}", EQUAL),
            ("52_8", "52", EQUAL),
            ("52_8", "52_9", DIFFERENT),
            ("52_8", "3.5", DIFFERENT),
        ),
    ),
    Rule(
        _both_words,
        (
            ("\\text{(C)}", "C", EQUAL),
            ("\\text{yes}", "no", DIFFERENT),
            ("\\text{on}", "no", UNKNOWN),
        ),
    ),
    Rule(_words_and_value, (("\\text{yes}", "1, 2", DIFFERENT), ("x", "5", UNKNOWN))),
)
