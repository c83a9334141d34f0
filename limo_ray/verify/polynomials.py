"""Exact numbers and polynomials: sums of rational x square root x powers of letters, and quotients.

A polynomial is a dict {(radicand, letters): coefficient}: `radicand` is a square-free whole number,
`letters` a sorted tuple of (name, exponent > 0), the coefficient a nonzero Fraction. Square roots
of different square-free numbers are linearly independent over the rationals, so that this form is
unique: two polynomials are equal exactly when their dicts are. pi, being transcendental, is a
letter. So is the value of a function (`Applied`), of which only equality is known exactly: two that
differ as letters may still be equal.

Everything is bounded: what grows past the bounds raises TooHard and is left to an algebra system.
"""

import math
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, Self

Letters = tuple[tuple[str, int], ...]
Monomial = tuple[int, Letters]
Polynomial = dict[Monomial, Fraction]

TERMS = 60  # terms of a polynomial
BITS = 4096  # bits of a coefficient
POWER = 1024  # of a number; of a sum it is bounded by TERMS
RADICAND = 10**9
NAME = 2_000  # characters of a function's name with its arguments

_UNIT: Monomial = (1, ())


class TooHard(Exception):
    """Outside of what is decided exactly here."""


def constant(number: Fraction) -> Polynomial:
    """A number as a polynomial."""
    return {_UNIT: number} if number else {}


def add(a: Polynomial, b: Polynomial, sign: int = 1) -> Polynomial:
    """a + sign * b."""
    total = dict(a)
    for monomial, coefficient in b.items():
        new = total.get(monomial, 0) + sign * coefficient
        if new:
            total[monomial] = new
        else:
            del total[monomial]
    return _bounded(total)


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """a * b."""
    if len(a) * len(b) > TERMS * TERMS:
        raise TooHard
    total: Polynomial = {}
    for (root_a, letters_a), x in a.items():
        for (root_b, letters_b), y in b.items():
            shared = math.gcd(root_a, root_b)
            letters = letters_a or letters_b
            if letters_a and letters_b:
                letters = _merge(letters_a, letters_b)
            monomial = (root_a * root_b // (shared * shared), letters)
            new = total.get(monomial, 0) + x * y * shared
            if new:
                total[monomial] = new
            else:
                del total[monomial]
    return _bounded(total)


def _merge(a: Letters, b: Letters) -> Letters:
    powers = dict(a)
    for letter, power in b:
        powers[letter] = powers.get(letter, 0) + power
    return tuple(sorted(powers.items()))


def _bounded(p: Polynomial) -> Polynomial:
    if len(p) > TERMS:
        raise TooHard
    for (root, _), c in p.items():
        if root > RADICAND or c.numerator.bit_length() > BITS or c.denominator.bit_length() > BITS:
            raise TooHard
    return p


class Ratio(NamedTuple):
    """A quotient of two polynomials, the second not zero."""

    over: Polynomial
    under: Polynomial

    @classmethod
    def number(cls, number: Fraction) -> Self:
        """A rational number."""
        return cls(constant(number), {_UNIT: Fraction(1)})

    @classmethod
    def letter(cls, name: str) -> Self:
        """A variable, or a transcendental constant."""
        return cls({(1, ((name, 1),)): Fraction(1)}, {_UNIT: Fraction(1)})

    @classmethod
    def surd(cls, radicand: int) -> Self:
        """The square root of a square-free number."""
        return cls({(radicand, ()): Fraction(1)}, {_UNIT: Fraction(1)})

    @classmethod
    def infinite(cls, sign: int) -> Self:
        """Plus or minus infinity, which only equals itself."""
        return cls({(1, (("infinity", 1),)): Fraction(sign)}, {_UNIT: Fraction(1)})

    def rational(self) -> Fraction | None:
        """The rational number that this is, or None when it is none (or not seen to be one)."""
        if self.under.keys() == {_UNIT} and self.over.keys() <= {_UNIT}:
            return self.over.get(_UNIT, Fraction(0)) / self.under[_UNIT]
        return None

    def plus(self, other: "Ratio", sign: int = 1) -> "Ratio":
        """self + sign * other."""
        if self.under == other.under:
            return Ratio(add(self.over, other.over, sign), self.under)
        left, right = multiply(self.over, other.under), multiply(other.over, self.under)
        return Ratio(add(left, right, sign), multiply(self.under, other.under))

    def times(self, other: "Ratio") -> "Ratio":
        """self * other."""
        return Ratio(multiply(self.over, other.over), multiply(self.under, other.under))

    def divided(self, other: "Ratio") -> "Ratio":
        """self / other; TooHard when other is zero."""
        if not other.over:
            raise TooHard
        if (number := other.rational()) is not None:
            return Ratio({m: c / number for m, c in self.over.items()}, self.under)
        return Ratio(multiply(self.over, other.under), multiply(self.under, other.over))

    def power(self, exponent: int) -> "Ratio":
        """self to a whole power; TooHard for 0 to the 0 and large powers."""
        if abs(exponent) > POWER or (not self.over and exponent <= 0):
            raise TooHard
        base = self if exponent >= 0 else Ratio(self.under, self.over)
        number = base.rational()
        if number is not None:
            bits = max(number.numerator.bit_length(), number.denominator.bit_length())
            if bits * abs(exponent) > BITS:
                raise TooHard
            return Ratio.number(number ** abs(exponent))
        if abs(exponent) > TERMS:
            raise TooHard
        result = Ratio.number(Fraction(1))
        for _ in range(abs(exponent)):
            result = result.times(base)
        return result

    def same(self, other: "Ratio") -> bool:
        """Whether both are the same number or the same rational function."""
        if self.under == other.under:
            return self.over == other.over
        return multiply(self.over, other.under) == multiply(other.over, self.under)

    def letters(self) -> set[str]:
        """All letters."""
        return {name for _, letters in (*self.over, *self.under) for name, _ in letters}

    def degree(self, name: str) -> int:
        """The highest power of a letter, over or under."""
        powers = [dict(letters).get(name, 0) for _, letters in (*self.over, *self.under)]
        return max(powers, default=0)

    def key(self) -> str:
        """A text that the same value, written in much the same way, has too."""
        lead = self.under[min(self.under)]
        parts = [sorted((m, c / lead) for m, c in p.items()) for p in (self.over, self.under)]
        return repr([[(m, str(c)) for m, c in part] for part in parts])

    def approximate(self, point: str | None = None) -> float | None:
        """The value as a float, or None when it has none that is sure.

        Letters stand for positive numbers that depend on the text `point`; without one, a value
        with letters has no approximation.
        """
        over, under = _float(self.over, point), _float(self.under, point)
        if over is None or under is None or abs(under) < 1e-9:
            return None
        return over / under


class Applied(str):
    """A letter that stands for the value of a function, such as a logarithm."""

    __slots__ = ("arguments", "function")
    function: str
    arguments: tuple[Ratio, ...]


def apply(function: str, *arguments: Ratio) -> Ratio:
    """A function of values as a letter of its own, the same for arguments of the same key."""
    name = Applied(f"{function}({', '.join(argument.key() for argument in arguments)})")
    name.function, name.arguments = function, arguments
    if len(name) > NAME:
        raise TooHard
    return Ratio.letter(name)


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "arccos": math.acos,
    "arcsin": math.asin,
    "arctan": math.atan,
    "cos": math.cos,
    "cosh": math.cosh,
    "cot": lambda x: 1 / math.tan(x),
    "csc": lambda x: 1 / math.sin(x),
    "exp": math.exp,
    "factorial": lambda x: math.gamma(x + 1),
    "ln": math.log,
    "log": math.log10,
    "logarithm": math.log,
    "power": lambda x, y: float(x**y) if x > 0 else math.nan,
    "sec": lambda x: 1 / math.cos(x),
    "sin": math.sin,
    "sinh": math.sinh,
    "sqrt": math.sqrt,
    "tan": math.tan,
    "tanh": math.tanh,
}
FUNCTIONS = frozenset(_FUNCTIONS)


def _letter(name: str, point: str | None) -> float | None:
    """The value of a letter, if it has one at the point."""
    if name in ("pi", "e"):
        return math.pi if name == "pi" else math.e
    if isinstance(name, Applied):
        values = [argument.approximate(point) for argument in name.arguments]
        if any(value is None or abs(value) > 1e6 for value in values):
            return None
        try:
            return _FUNCTIONS[name.function](*values)
        except (ArithmeticError, ValueError):
            return None
    if point is None or name == "i":
        return None
    # Near 1, so that powers stay small, and positive, so that roots are real.
    return 0.4 + zlib.crc32((point + name).encode()) % 1_199_999 / 1e6


def _float(p: Polynomial, point: str | None) -> float | None:
    total, size = 0.0, 0.0
    for (root, letters), coefficient in p.items():
        if coefficient.numerator.bit_length() > 200 or coefficient.denominator.bit_length() > 200:
            return None
        term = float(coefficient) * math.sqrt(root)
        for name, power in letters:
            if name == "infinity":
                return math.copysign(math.inf, coefficient)
            value = _letter(name, point)
            if value is None or power > 20 or abs(value) > 1e6:
                return None
            term *= value**power
        total += term
        size = max(size, abs(term))
    # Cancellation could leave nothing but rounding errors: no answer then.
    return None if p and not abs(total) > 1e-9 * size else total
