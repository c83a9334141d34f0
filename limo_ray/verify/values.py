"""Values of expressions at one point: exact rationals, or balls that certainly hold the value.

A rational number is an `fmpq`; anything else is an `acb`, a complex ball of FLINT, whose radius
bounds every rounding error. Two balls apart are two different values. A letter stands for a fixed
number that looks random, so that expressions with letters are different wherever their values are.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

from flint import acb, arb, ctx, fmpq, fmpz

Value = fmpq | acb

ctx.prec = 128  # bits of a ball
EXACT_BITS = 4_096  # of a power of a rational number; a larger one is a ball
FACTORIAL = 500  # the largest exact one
HUGE = 1_000_000  # an exponent from which on a power that overflows counts as infinite
NARROW = 1e-25  # radius of two balls that are taken for the same value when they overlap

INFINITY = acb(arb("inf"))
CONSTANTS = {"e": acb(1).exp(), "i": acb(0, 1), "\\pi": acb.pi()}


class Unsure(Exception):
    """The text has no value, or more than one reading."""


@lru_cache(maxsize=1024)
def letter(name: str, point: int) -> Value:
    """The number that a letter stands for.

    At point 0 it is a rational number between 0.4 and 1.6: positive, so that roots are real, and
    near 1, so that powers stay small. At point 1 it is complex, with an argument between 90 and 135
    degrees, so that |x| and the square root of x^2 are not x.
    """
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    share = fmpq(int.from_bytes(digest), 2**64)
    size = fmpq(2, 5) + share * fmpq(6, 5)
    if point == 0:
        return size
    return size * acb(fmpq(1, 2) + share / 4).exp_pi_i()


def sqrt(x: Value) -> Value:
    """The square root; exact where it is rational."""
    if isinstance(x, fmpq) and x >= 0:
        over, under = x.p.isqrt(), x.q.isqrt()
        if over * over == x.p and under * under == x.q:
            return fmpq(over, under)
    return acb(x).sqrt()


def power(base: Value, exponent: Value) -> Value:
    """A power; exact for whole exponents that are not too large, and for whole roots."""
    if base == 0 and not (isinstance(exponent, fmpq) and exponent > 0):
        raise Unsure
    if not (isinstance(base, fmpq) and isinstance(exponent, fmpq)):
        return _ball_power(acb(base), exponent)
    if exponent.q == 1:
        bits = max(int(base.p).bit_length(), int(base.q).bit_length())
        if abs(exponent.p) * bits <= EXACT_BITS:
            return base ** int(exponent.p)
        return _ball_power(acb(base), exponent)
    if base < 0:
        raise Unsure  # the real root or the complex one
    if exponent.q == 2:
        return power(sqrt(base), fmpq(exponent.p))
    if base.q == 1 and exponent.q < 20:
        root = base.p.root(int(exponent.q))
        if root ** int(exponent.q) == base.p:
            return power(fmpq(root), fmpq(exponent.p))
    return _ball_power(acb(base), exponent)


def _ball_power(base: acb, exponent: Value) -> acb:
    result = base**exponent
    if not result.is_finite() and base.imag == 0 and base.real > 1.1 and real(exponent) > HUGE:
        return INFINITY
    return result


def factorial(x: Value) -> Value:
    """The factorial of a whole number; of anything else, the gamma function."""
    if isinstance(x, fmpq) and x.q == 1:
        if x < 0:
            raise Unsure
        if x <= FACTORIAL:
            return fmpq(fmpz.fac_ui(x.p))
    return (acb(x) + 1).gamma()


def real(x: Value) -> arb:
    """A real value as a ball; Unsure for a complex one."""
    ball = acb(x)
    if ball.imag != 0:
        raise Unsure
    return ball.real


def known(x: acb) -> bool:
    """Whether a ball says anything: it is finite, or infinity itself."""
    return bool(x.is_finite() or abs(x.real) == INFINITY.real)


_SAME_NAME = ("cos", "cosh", "cot", "csc", "exp", "sec", "sin", "sinh", "tan", "tanh")
FUNCTIONS: dict[str, Callable[[acb], acb]] = {
    **{name: getattr(acb, name) for name in _SAME_NAME},
    "abs": lambda x: acb(abs(x)),
    "arccos": acb.acos,
    "arcsin": acb.asin,
    "arctan": acb.atan,
    "ln": acb.log,
    "log": lambda x: x.log() / acb(10).log(),
}


def apply(function: str, x: Value) -> Value:
    """The value of a function; exact for the absolute value of a rational number."""
    if function == "abs" and isinstance(x, fmpq):
        return abs(x)
    return FUNCTIONS[function](acb(x))
