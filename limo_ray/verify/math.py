r"""Mathematical answers: math-verify and sympy decide, with an exact fast path in front of them.

    easy(answer, extracted)   the verdict where exact comparison gives it at once, else None
    hard(answer, extracted)   what math-verify says; may take for ever: run it in a process to kill

A gold answer is text or LaTeX ("12", "\frac{1}{2}", "x=5", "(-1, 3]", "1, 2"), or a JSON list of
texts, each of which is accepted ('["1/2", "50\\%"]').
"""

import json
import logging
import re
import threading
from functools import lru_cache
from typing import Any

from limo_ray.core.records import Verdict
from limo_ray.verify.exact import DIFFERENT, EQUAL, UNKNOWN, Outcome
from limo_ray.verify.latex_reader import compare_texts, read
from limo_ray.verify.normalize import LONGEST, decimal_point, spaceless, standard
from limo_ray.verify.special_cases import decide
from limo_ray.verify.units import differ

DEPTH = 12  # of nested brackets; the parser takes seconds for more, and no answer has them
_BRACKET = re.compile(r"[(){}\[\]]")

_VERDICTS = {EQUAL: Verdict.CORRECT, DIFFERENT: Verdict.WRONG}

# Part of ANTLR's state is shared by all parsers: one thread parses at a time.
_lock = threading.Lock()


@lru_cache(maxsize=4096)
def accepted(answer: str) -> tuple[str, ...]:
    """The answers that a gold answer accepts: itself, or the texts of a JSON list."""
    if answer.startswith("[") and '"' in answer:
        try:
            several = json.loads(answer)
        except ValueError:
            return (answer,)
        if isinstance(several, list) and several and all(isinstance(s, str) for s in several):
            return tuple(several)
    return (answer,)


def easy(answer: str, extracted: str) -> Verdict | None:
    """The verdict where exact comparison gives it at once; None for a hard pair."""
    if answer == extracted and answer:
        return Verdict.CORRECT
    outcomes = [_same(gold, said) for gold, said in _pairs(answer, extracted)]
    return _VERDICTS.get(Outcome.any(outcomes))


def _pairs(answer: str, extracted: str) -> list[tuple[str, str]]:
    """What may be the same as what, in standard spelling: 1,22 is a list or a decimal."""
    saids = _readings(extracted)
    return [(g, said) for gold in accepted(answer) for g in _readings(gold) for said in saids]


def _readings(text: str) -> tuple[str, ...]:
    text = standard(text)
    decimal = decimal_point(text)
    return (text, decimal) if decimal else (text,)


def _same(gold: str, said: str) -> Outcome:
    """Whether two answers in standard spelling are the same, where that can be said at once."""
    if not gold or not said:
        return DIFFERENT
    if differ(gold, said):
        return DIFFERENT
    outcome = compare_texts(gold, said)
    if outcome is UNKNOWN and spaceless(gold) == spaceless(said):
        return EQUAL
    return decide(gold, said) if outcome is UNKNOWN else outcome


def _depth(text: str) -> int:
    """How deep brackets are nested."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "({[" else -1
        deepest = max(deepest, depth)
    return deepest


def _quiet() -> None:
    """math-verify warns, once per process, that it has no time limit: here that is on purpose."""
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)


@lru_cache(maxsize=1024)
def parsed(text: str) -> list[Any]:
    """math-verify's parse of one standard answer: expressions, then the text itself."""
    if not text or _depth(text) > DEPTH:
        return []
    from math_verify import LatexExtractionConfig, parse

    _quiet()
    with _lock:
        found: list[Any] = parse(f"${text}$", (LatexExtractionConfig(),), parsing_timeout=None)
        return found


def hard(answer: str, extracted: str) -> Verdict:
    """What math-verify says. May take for ever: run it where it can be killed."""
    for gold, said in _pairs(answer, extracted):
        outcome = _same(gold, said)
        if outcome is EQUAL or (outcome is UNKNOWN and _accepts(parsed(gold), parsed(said))):
            return Verdict.CORRECT
    return Verdict.WRONG


def _accepts(gold: list[Any], said: list[Any]) -> bool:
    """math-verify's comparison, with what is certainly different told apart before."""
    from math_verify import verify

    # Answers that did not parse are compared as text, which `_same` has already done.
    golds = [value for value in gold if not isinstance(value, str)]
    saids = [value for value in said if not isinstance(value, str)]
    if all(_several_and_one(a, b) for a in golds for b in saids):
        return False
    return bool(verify(golds, saids, allow_set_relation_comp=True, timeout_seconds=None))


def _several_and_one(gold: Any, said: Any) -> bool:
    """Whether the gold answer is several values and the other a single one."""
    from sympy import Expr, FiniteSet, Interval, Tuple

    several = isinstance(gold, Interval) or (isinstance(gold, FiniteSet | Tuple) and len(gold) > 1)
    return several and isinstance(said, Expr)


def unverifiable(answer: str) -> str | None:
    """Why a gold answer cannot be used, or None."""
    if not answer.strip():
        return "empty"
    for gold in accepted(answer):
        text = standard(gold)
        if not text:
            return f"empty, or longer than {LONGEST} characters"
        if read(text) is not None or decide(text, text) is EQUAL:
            continue
        if all(isinstance(value, str) for value in parsed(text)):
            return f"does not parse: {gold[:200]}"
        from math_verify import verify

        if not verify(parsed(text), parsed(text), timeout_seconds=None):
            return f"not accepted against itself: {gold[:200]}"
    return None
