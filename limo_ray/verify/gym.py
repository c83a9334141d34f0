r"""Problems of reasoning_gym (github.com/open-thought/reasoning-gym), judged by its scorers.

A gold answer is JSON: {"kind": "gcd", "answer": "12", "metadata": {...}}; a completion is right
when its kind's `score_answer` gives 1.0. Some of those scorers hand the answer to Python's `eval`:
here such answers are compared without it, or must first pass a whitelist of characters and names.
"""

import ast
import json
import re
from functools import cache, lru_cache
from typing import Any

from limo_ray.core.records import Verdict

# These kinds eval() an answer that is not the expected text, to give it at most half a point.
_COMPARED = {"string_insertion", "spiral_matrix", "binary_matrix", "n_queens"}
# These hand the answer to sympy's parse_expr, which is eval() after some rewriting.
_PARSED = {
    "simple_integration",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "countdown",
}
_TOKEN = re.compile(r"\s+|\d+(?:\.\d+)?|\*\*|[-+*/^()]|[A-Za-z]+")
_NAMES = {"sin", "cos", "tan", "exp", "log", "ln", "sqrt", "pi", "asin", "acos", "atan", "sinh"}
_NAMES |= {"cosh", "tanh"}
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}")
# What a scorer may raise on an answer that is not of the form that it expects.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_TUPLES = {"arc_agi", "rearc"}  # compare with tuples, which JSON turned into lists


@lru_cache(maxsize=2048)
def entry(answer: str) -> dict[str, Any]:
    """The gold answer as reasoning_gym's entry plus its kind; ValueError when it is none."""
    try:
        gold = json.loads(answer)
        kind, text = gold["kind"], gold["answer"]
        metadata = gold.get("metadata") or {}
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ValueError(f"not a gym answer (kind, answer, metadata): {answer[:200]}") from e
    typed = isinstance(kind, str) and isinstance(text, str | None) and isinstance(metadata, dict)
    if not typed:
        raise ValueError(f"a gym answer has a kind, a text and metadata: {answer[:200]}")
    if kind in _TUPLES:
        metadata = {key: _tuples(value) for key, value in metadata.items()}
    return {
        "kind": kind,
        "question": gold.get("question") or "",
        "answer": text,
        "metadata": metadata,
    }


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


@cache
def _scorer(kind: str) -> Any:
    """The dataset object of a kind, made without generating anything; KeyError for no such kind."""
    from reasoning_gym.factory import DATASETS

    made, config = DATASETS[kind]
    return made(config=config())


def forms(extracted: str) -> list[str]:
    """The extracted answer as it stands, then without LaTeX wrappers, then without commas."""
    plain = _TEXT.sub(r"\1", extracted).replace("\\\\", "\n").replace("$", "").strip()
    plain = re.sub(r"\\[,;! ]", "", plain).replace("\\%", "%").replace("\\_", "_")
    number = re.sub(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))", "", plain)
    fraction = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", number)
    return list(dict.fromkeys([extracted, plain, number, fraction]))


def easy(answer: str, extracted: str) -> Verdict | None:
    """CORRECT when the text is the gold answer itself, which every scorer gives 1.0; else None."""
    return Verdict.CORRECT if entry(answer)["answer"] in forms(extracted) else None


def hard(answer: str, extracted: str) -> Verdict:
    """The scorer's word: CORRECT from 1.0, else WRONG.

    A scorer that fails on an answer but accepts the gold one has said WRONG; when it does not
    accept the gold one either, nothing can be said: ERROR.
    """
    gold = entry(answer)
    try:
        right = any(_accepted(gold, form) for form in forms(extracted))
    except FAILURES:
        return Verdict.ERROR if unverifiable(answer) else Verdict.WRONG
    return Verdict.CORRECT if right else Verdict.WRONG


def _accepted(gold: dict[str, Any], text: str) -> bool:
    kind, metadata = gold["kind"], gold["metadata"]
    if kind in _COMPARED:
        return text.strip() in (metadata.get("valid_answers") or [(gold["answer"] or "").strip()])
    if kind in _PARSED:
        text = text.replace("^", "**")
        if not (_harmless(text) and _harmless(str(metadata.get("integrand", "0")))):
            return False
        if kind == "polynomial_multiplication" and not _harmless(gold["answer"] or ""):
            return False
    if kind == "number_sorting":  # the scorer would eval() a gold answer that is not JSON
        gold = {**gold, "answer": _as_json(gold["answer"] or "")}
    return float(_scorer(kind).score_answer(text, gold)) >= 1.0


def _harmless(text: str) -> bool:
    """Whether a text holds numbers, operators, single letters and names of functions only."""
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return False
        word = token[0]
        if word.isalpha() and len(word) > 1 and word not in _NAMES:
            return False
        at = token.end()
    return len(text) <= 2_000


def _as_json(text: str) -> str:
    """A list as JSON; ValueError when the text is no list of numbers and texts."""
    try:
        return json.dumps(ast.literal_eval(text))
    except (SyntaxError, MemoryError, RecursionError) as e:
        raise ValueError(f"not a list: {text[:200]}") from e


def unverifiable(answer: str) -> str | None:
    """Why a gold answer cannot be used, or None."""
    try:
        gold = entry(answer)
    except ValueError as e:
        return str(e)
    from reasoning_gym.factory import DATASETS

    if gold["kind"] not in DATASETS:
        return f"no such kind: {gold['kind']}"
    text = gold["answer"]
    if text is None:
        return "no gold answer"
    try:
        accepted = bool(text) and _accepted(gold, text)
    except FAILURES as e:
        return f"its scorer failed: {type(e).__name__}: {e}"
    return None if accepted else "not accepted by its scorer"


def show(answer: str) -> str:
    """The gold answer's text."""
    return str(entry(answer)["answer"])
