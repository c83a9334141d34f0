"""Rough values of sympy expressions: enough to tell different ones apart without working them out.

math-verify takes a difference and simplifies it, which on a wrong answer is the slowest thing it
does, and with giant powers never ends. Two expressions that differ in value at a point are not the
same, so most wrong answers end here. Nothing is built or evaluated by sympy: the tree is walked
with Python floats, where what overflows is infinite, and what loses its digits has no value.
"""

import cmath
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any

Rough = float | complex

NODES = 2_000  # a larger tree has no rough value
CLEAR = 1e-4  # relative difference of two values that are not the same
_EXACT = 1e8  # sums of larger terms that nearly cancel have no value

_FUNCTIONS: dict[str, Callable[[Any], Rough]] = {
    "Abs": abs,
    "acos": cmath.acos,
    "asin": cmath.asin,
    "atan": cmath.atan,
    "ceiling": math.ceil,
    "conjugate": lambda z: complex(z).conjugate(),
    "cos": cmath.cos,
    "cosh": cmath.cosh,
    "cot": lambda z: 1 / cmath.tan(z),
    "csc": lambda z: 1 / cmath.sin(z),
    "exp": cmath.exp,
    "factorial": lambda z: math.gamma(z + 1) if z < 170 else math.inf,
    "floor": math.floor,
    "log": cmath.log,
    "sec": lambda z: 1 / cmath.cos(z),
    "sin": cmath.sin,
    "sinh": cmath.sinh,
    "tan": cmath.tan,
    "tanh": cmath.tanh,
}
_CONSTANTS: dict[str, Rough] = {
    "Pi": math.pi,
    "Exp1": math.e,
    "ImaginaryUnit": 1j,
    "GoldenRatio": (1 + math.sqrt(5)) / 2,
    "Infinity": math.inf,
    "NegativeInfinity": -math.inf,
}


class _NoValueError(Exception):
    """The expression has no rough value."""


def differ(a: Any, b: Any) -> bool:
    """Whether two sympy expressions certainly have different values; False when in doubt."""
    for salt in ("1", "2"):
        x, y = value(a, salt), value(b, salt)
        if x is None or y is None:
            return False
        if cmath.isinf(x) or cmath.isinf(y):
            if x != y and not (cmath.isinf(x) and cmath.isinf(y)):
                return True
        elif abs(x - y) > CLEAR * (1 + abs(x) + abs(y)):
            return True
    return False


def value(expression: Any, salt: str = "") -> Rough | None:
    """The value with a positive number in place of each symbol, or None."""
    budget = [NODES]
    try:
        result = _walk(expression, salt, budget)
    except (_NoValueError, ArithmeticError, AttributeError, RecursionError, TypeError, ValueError):
        return None
    return None if cmath.isnan(result) else result


def _walk(node: Any, salt: str, budget: list[int]) -> Rough:
    budget[0] -= 1
    if budget[0] < 0:
        raise _NoValueError
    name = type(node).__name__
    if node.is_Rational:
        return _quotient(node.p, node.q)
    if node.is_Float:
        return float(node)
    if node.is_Symbol:
        # Between 0.4 and 1.6: positive, so that roots and logarithms are real, and near 1, so
        # that powers stay small; never 1 itself.
        return 0.4 + zlib.crc32((salt + node.name).encode("utf-8", "replace")) % 1_199_999 / 1e6
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    arguments = (_walk(argument, salt, budget) for argument in node.args)
    if name == "UnevaluatedExpr":
        raise _NoValueError  # a percent sign, which math-verify may pass over
    if node.is_Add:
        return _sum(arguments)
    if node.is_Mul:
        return math.prod(arguments)
    if node.is_Pow:
        return _power(*arguments)
    if name in _FUNCTIONS and len(node.args) == 1:
        inside = next(arguments)
        if cmath.isinf(inside) or (abs(inside) > 1e6 and name not in ("Abs", "log", "factorial")):
            raise _NoValueError
        result = _FUNCTIONS[name](inside)
        return result.real if isinstance(result, complex) and not result.imag else result
    raise _NoValueError


def _quotient(over: int, under: int) -> float:
    try:
        return over / under
    except OverflowError:
        if abs(over).bit_length() > abs(under).bit_length():
            return math.copysign(math.inf, over)
        raise


def _sum(terms: Iterable[Rough]) -> Rough:
    total, largest = 0.0 + 0j, 0.0
    for term in terms:
        total += term
        largest = max(largest, abs(term))
    if _EXACT < largest < math.inf and abs(total) < CLEAR * largest:
        raise _NoValueError
    return total if total.imag else total.real


def _power(base: Rough, exponent: Rough) -> Rough:
    if isinstance(exponent, complex):
        return base**exponent
    if abs(exponent) > 1e6 and 0.999 < abs(base) < 1.001:
        raise _NoValueError  # every digit of the base would count
    if abs(exponent) > 1e9 and isinstance(base, complex | float) and base != abs(base):
        raise _NoValueError  # the sign is lost
    try:
        return base**exponent
    except OverflowError:
        if isinstance(base, complex):
            raise
        return math.inf if base > 0 or exponent % 2 == 0 else -math.inf
