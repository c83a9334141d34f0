"""Countdown: reach a target from given numbers by + - * /, in exact fractions.

The rules are those of TinyZero (github.com/Jiayi-Pan/TinyZero): every given number exactly once, or
at most once with `use_all=false`. Its known faults are not repeated: nothing is evaluated by Python
(no `**` that runs for ever), decimals are not two integers, and instances without a solution are
told apart before anything is sampled.

A gold answer is JSON: {"numbers": [4, 6, 8], "target": 24, "use_all": true}.
"""

import ast
import json
import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from limo_ray.core.records import Verdict
from limo_ray.verify.extract import TAIL, explicit, region

LONGEST = 500  # characters of an expression
SOLVABLE_UP_TO = 6  # numbers; more than that are not searched

_ALLOWED = re.compile(r"[0-9+\-*/()\s]+")
_LINE = re.compile(r"^[^\n=]*\d\s*[-+*/\u00d7\u00f7][^\n=]*", re.MULTILINE)
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:left|right|,|!|;|quad|displaystyle)"), ""),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[\u00d7\u00b7]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|\u00f7"), "/"),
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"\$|\\[()\[\]]"), ""),
)


class Task(NamedTuple):
    """One instance: the numbers, the target, and whether all numbers must be used."""

    numbers: tuple[int, ...]
    target: Fraction
    use_all: bool


@lru_cache(maxsize=4096)
def task(answer: str) -> Task:
    """The instance that a gold answer describes; ValueError when it describes none."""
    try:
        gold = json.loads(answer)
        numbers = tuple(gold["numbers"])
        target = Fraction(str(gold["target"]))
        use_all = gold.get("use_all", True)
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as e:
        raise ValueError(f"not a countdown answer (numbers, target): {answer[:200]}") from e
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
    if not numbers or not whole or not isinstance(use_all, bool):
        raise ValueError(f"countdown numbers must be whole, use_all a boolean: {answer[:200]}")
    return Task(numbers, target, use_all)


def extract(completion: str, *, complete: bool = True) -> str | None:
    """The expression of a completion: last box, else last <answer>, else the last line of sums."""
    text = region(completion)
    found = explicit(text, complete=complete)
    if found is None and complete:
        lines = _LINE.findall(text[-TAIL:])
        found = lines[-1].strip() if lines else None
    return found


def verify(answer: str, extracted: str) -> Verdict:
    """CORRECT when the expression obeys the rules and equals the target exactly, else WRONG."""
    gold = task(answer)
    text = extracted.strip()[: LONGEST + 1]
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    # "(8 - 4) * 6 = 24": an equation is read as its left side when its right side is the target.
    text, _, claim = text.partition("=")
    if claim.strip(" .") and claim.strip(" .") != str(gold.target):
        return Verdict.WRONG
    if len(text) > LONGEST or not _ALLOWED.fullmatch(text):
        return Verdict.WRONG
    used: list[int] = []
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body, used)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return Verdict.WRONG
    allowed = Counter(gold.numbers)
    obeys = Counter(used) == allowed if gold.use_all else not Counter(used) - allowed
    return Verdict.CORRECT if obeys and value == gold.target else Verdict.WRONG


def _value(node: ast.expr, used: list[int]) -> Fraction:
    """Exact value of a whitelisted expression; appends the numbers it uses to `used`."""
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, used), _value(node.right, used)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, used)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    raise ValueError("only whole numbers, + - * / and brackets")


def solve(answer: str) -> str | None:
    """An expression that solves the instance, or None when there is none."""
    gold = task(answer)
    numbers = gold.numbers
    full = (1 << len(numbers)) - 1
    sizes = [full] if gold.use_all else range(1, full + 1)
    tables: dict[int, dict[Fraction, str]] = {}
    for mask in sizes:
        if found := _reach(numbers, mask, gold.target, tables):
            return found
    return None


def _table(
    numbers: tuple[int, ...], mask: int, tables: dict[int, dict[Fraction, str]]
) -> dict[Fraction, str]:
    """Every value that the numbers in `mask` make, each with one expression."""
    if mask in tables:
        return tables[mask]
    values: dict[Fraction, str] = {}
    if mask & (mask - 1) == 0:
        number = numbers[mask.bit_length() - 1]
        values[Fraction(number)] = str(number)
    else:
        part = (mask - 1) & mask
        while part:
            for a, left in _table(numbers, part, tables).items():
                for b, right in _table(numbers, mask ^ part, tables).items():
                    if part > mask ^ part:  # + and * once for each pair of parts
                        values.setdefault(a + b, f"({left} + {right})")
                        values.setdefault(a * b, f"({left} * {right})")
                    values.setdefault(a - b, f"({left} - {right})")
                    if b:
                        values.setdefault(a / b, f"({left} / {right})")
            part = (part - 1) & mask
    tables[mask] = values
    return values


def _reach(
    numbers: tuple[int, ...], mask: int, target: Fraction, tables: dict[int, dict[Fraction, str]]
) -> str | None:
    """An expression over all numbers in `mask` with value `target`, searched from the target back.

    Tables hold at most three numbers (a few thousand values); above that the smaller part of each
    split says what the larger part must then be.
    """
    if mask.bit_count() <= 3:
        return _table(numbers, mask, tables).get(target)
    part = (mask - 1) & mask
    while part:
        rest = mask ^ part
        if part.bit_count() <= rest.bit_count():
            for a, left in _table(numbers, part, tables).items():
                for needed, form in _needed(a, target):
                    if right := _reach(numbers, rest, needed, tables):
                        return form.format(left, right)
        part = (part - 1) & mask
    return None


def _needed(a: Fraction, target: Fraction) -> list[tuple[Fraction, str]]:
    """What `b` must be so that a and b make the target, with the form of the expression."""
    needed = [
        (target - a, "({0} + {1})"),
        (a - target, "({0} - {1})"),
        (target + a, "({1} - {0})"),
    ]
    if a:
        needed += [(target / a, "({0} * {1})"), (target * a, "({1} / {0})")]
        if target:
            needed.append((a / target, "({0} / {1})"))
    elif not target:
        # Nought times, or divided by, anything: any value of b will do, try a plain one.
        needed.append((Fraction(1), "({0} * {1})"))
    return needed


def unverifiable(answer: str) -> str | None:
    """Why a gold answer cannot be used, or None."""
    try:
        gold = task(answer)
    except ValueError as e:
        return str(e)
    if len(gold.numbers) <= SOLVABLE_UP_TO and solve(answer) is None:
        return "no solution"
    return None


def show(answer: str) -> str:
    """The instance in words."""
    gold = task(answer)
    how = "all of" if gold.use_all else "some of"
    return f"{gold.target} from {how} {', '.join(map(str, gold.numbers))}"
