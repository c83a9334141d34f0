"""Problems made by reasoning_gym (github.com/open-thought/reasoning-gym), in any number.

Row i of a kind depends on the kind, its settings, the seed and i only: rows are made in chunks of
CHUNK, each by a generator of its own, so that any number of tasks can make them in any order, and a
larger number of rows begins with the rows of a smaller one.
"""

import ast
import dataclasses
import hashlib
import json
import operator
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from limo_ray.core.records import fingerprint
from limo_ray.problems.columns import InvalidRow

CHUNK = 250  # rows; the slowest kinds make two or three a second

# Kinds that cannot be in a pool, each with the reason.
_UNSTEADY = "its problems differ from process to process (they follow Python's hash seed)"
_NO_ANSWER = "it gives no gold answer to check against"
UNUSABLE = {
    "boxnet": _NO_ANSWER,
    "codeio": _UNSTEADY,
    "composite": "it is a mixture: name its kinds instead",
    "graph_color": _NO_ANSWER,
    "isomorphic_strings": _UNSTEADY,
    "knight_swap": _UNSTEADY,
    "polynomial_multiplication": _UNSTEADY,
    "propositional_logic": _NO_ANSWER,
    "ransom_note": _UNSTEADY,
    "rubiks_cube": _NO_ANSWER,
    "rush_hour": _NO_ANSWER,
    "word_ladder": _UNSTEADY,
}
# What a generator can raise for one unlucky problem; a mistake in its settings is found by `check`.
_FAILURES = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
# Bookkeeping of the generator that no scorer reads.
_NOT_NEEDED = ("difficulty", "source_index")
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def check(kinds: dict[str, int], settings: dict[str, dict[str, Any]]) -> None:
    """ValueError, beginning with the field's name, for kinds, sizes or settings that cannot be."""
    import difflib

    from reasoning_gym.factory import DATASETS

    for kind, rows in kinds.items():
        if kind not in DATASETS:
            near = difflib.get_close_matches(kind, DATASETS, n=3)
            hint = f" (did you mean {', '.join(near)}?)" if near else ""
            raise ValueError(f"gym: reasoning_gym has no kind {kind!r}{hint}")
        if kind in UNUSABLE:
            raise ValueError(f"gym: kind {kind!r} cannot be used: {UNUSABLE[kind]}")
        if rows < 1:
            raise ValueError(f"gym.{kind}: {rows} rows, must be at least 1")
    for kind, chosen in settings.items():
        if kind not in kinds:
            raise ValueError(f"settings: {kind!r} is not among the kinds of gym")
        config = DATASETS[kind][1]
        known = {f.name for f in dataclasses.fields(config)} - {"seed", "size"}
        for name in chosen:
            if name not in known:
                raise ValueError(
                    f"settings.{kind}: no setting {name!r}, has {', '.join(sorted(known))}"
                )
        try:
            made = config(**_plain(chosen))
            if hasattr(made, "validate"):  # two kinds have none
                made.validate()
        except (AssertionError, TypeError, ValueError) as e:
            raise ValueError(f"settings.{kind}: {chosen} refused: {e or 'out of range'}") from e


def first_seed(kind: str, settings: dict[str, Any], seed: int) -> int:
    """Seed of the row 0 of a kind; row i of a chunk has this plus its number. Below 2^31."""
    key = f"{kind}:{seed}:{fingerprint(settings)}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % 2**31


def problems(
    kind: str, settings: dict[str, Any], seed: int, begin: int, end: int
) -> Iterator[dict[str, Any] | InvalidRow]:
    """Rows begin to end - 1 of a kind, as dicts with question, answer, domain and metadata.

    The gold answer is what `limo_ray.verify` takes for the domains "gym" and "countdown".
    """
    from reasoning_gym.factory import create_dataset

    base = first_seed(kind, settings, seed)
    for chunk in range(begin // CHUNK, -(-end // CHUNK)):
        start = chunk * CHUNK
        # A whole chunk's size whatever is taken of it: some kinds lay out their rows by it.
        made = create_dataset(kind, **_plain(settings), seed=base + start, size=CHUNK)
        for i in range(max(begin, start), min(end, start + CHUNK)):
            try:
                entry = made[i - start]
            except _FAILURES as e:
                yield InvalidRow("question", f"the generator failed: {type(e).__name__}: {e}", kind)
                continue
            yield problem(kind, entry)


def problem(kind: str, entry: dict[str, Any]) -> dict[str, Any] | InvalidRow:
    """One entry of reasoning_gym as question, answer, domain and metadata."""
    if entry["answer"] is None:
        return InvalidRow("answer", "the kind gives no gold answer", kind)
    known: dict[str, Any] = entry["metadata"]
    if kind == "basic_arithmetic" and (true := value(known["expression"])) != int(entry["answer"]):
        return InvalidRow("answer", f"wrong: {known['expression']} is {true}", entry["answer"])
    metadata = {"kind": kind, "difficulty": known.get("difficulty")}
    if kind == "countdown":
        gold = {"numbers": known["numbers"], "target": known["target"], "use_all": True}
        # Without the format rules after the question: they forbid to think before the answer.
        question, domain = entry["question"].partition("\n\nFinal answer format")[0], "countdown"
    else:
        needed = {k: v for k, v in known.items() if k not in _NOT_NEEDED and _is_json(v)}
        gold = {"kind": kind, "answer": str(entry["answer"]), "metadata": needed}
        question, domain = entry["question"], "gym"
    return {
        "question": question.strip(),
        "answer": json.dumps(gold),
        "domain": domain,
        "metadata": json.dumps(metadata, default=str),
    }


def value(expression: str) -> Fraction | None:
    """A sum in exact fractions, by the usual precedence; None when it divides by zero.

    basic_arithmetic works from left to right and rounds quotients: 9 of 1,000 of its answers are
    wrong, and 350 of 1,000 with `allow_parentheses` off (reasoning-gym 0.1.25).
    """
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except ZeroDivisionError:
        return None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(left), _value(right))
    raise ValueError(f"not a sum: {ast.dump(node)}")


def _is_json(found: Any) -> bool:
    # Fractions and the like stay behind; a scorer that misses them fails the gold check.
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    # YAML has no tuples, and some kinds want one.
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
