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
from limo_ray.verify.exact import compare
from limo_ray.verify.latex_reader import read
from limo_ray.verify.normalize import LONGEST, spaceless, standard
from limo_ray.verify.numeric_check import differ
from limo_ray.verify.special_cases import decide

DEPTH = 12  # of nested brackets; the parser takes seconds for more, and no answer has them
_BRACKET = re.compile(r"[(){}\[\]]")

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
    decided = [_same(gold, extracted) for gold in accepted(answer)]
    if True in decided:
        return Verdict.CORRECT
    return None if None in decided else Verdict.WRONG


def _same(gold: str, said: str) -> bool | None:
    """Whether two answers are the same, where that can be said at once; else None."""
    gold, said = standard(gold), standard(said)
    if not gold or not said:
        return False
    a, b = read(gold), read(said)
    if a is not None and b is not None:
        same = compare(a, b)
        if same is not None:
            return same
    if spaceless(gold) == spaceless(said):
        return True
    return decide(gold, said)


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
        return parse(f"${text}$", (LatexExtractionConfig(),), parsing_timeout=None)


def hard(answer: str, extracted: str) -> Verdict:
    """What math-verify says. May take for ever: run it where it can be killed."""
    said = standard(extracted)
    for gold in accepted(answer):
        same = _same(gold, extracted)
        if same or (same is None and _accepts(parsed(standard(gold)), parsed(said))):
            return Verdict.CORRECT
    return Verdict.WRONG


def _accepts(gold: list[Any], said: list[Any]) -> bool:
    """math-verify's comparison, with what is certainly different told apart before."""
    from math_verify import verify

    # Answers that did not parse are compared as text, which `_same` has already done.
    golds = [value for value in gold if not isinstance(value, str)]
    saids = [value for value in said if not isinstance(value, str)]
    if all(_certainly_different(a, b) for a in golds for b in saids):
        return False
    return bool(verify(golds, saids, allow_set_relation_comp=True, timeout_seconds=None))


def _certainly_different(gold: Any, said: Any) -> bool:
    from sympy import Expr, FiniteSet, Interval, Symbol, Tuple

    if not isinstance(said, Expr):
        return False
    if isinstance(gold, Interval) or (isinstance(gold, FiniteSet | Tuple) and len(gold) > 1):
        return True  # several values and a single one
    # A product of symbols may spell a word: "y e s" is \\text{yes} to math-verify.
    words = isinstance(gold, Symbol) or isinstance(said, Symbol)
    return isinstance(gold, Expr) and not words and differ(gold, said)


def unverifiable(answer: str) -> str | None:
    """Why a gold answer cannot be used, or None."""
    if not answer.strip():
        return "empty"
    for gold in accepted(answer):
        text = standard(gold)
        if not text:
            return f"empty, or longer than {LONGEST} characters"
        if read(text) is not None or decide(text, text):
            continue
        if all(isinstance(value, str) for value in parsed(text)):
            return f"does not parse: {gold[:200]}"
        from math_verify import verify

        if not verify(parsed(text), parsed(text), timeout_seconds=None):
            return f"not accepted against itself: {gold[:200]}"
    return None
