"""Roots, powers and factorials of values, exact where they can be."""

import math
from fractions import Fraction

from limo_ray.verify.polynomials import RADICAND, Ratio, TooHard, apply


def root(number: Fraction) -> Ratio:
    """The square root of a rational number >= 0; TooHard for others and for large ones."""
    inside = number.numerator * number.denominator
    if inside < 0 or inside > RADICAND:
        raise TooHard
    outside, left, factor = 1, inside, 2
    while factor * factor <= left:
        while left % (factor * factor) == 0:
            left //= factor * factor
            outside *= factor
        factor += 1
        if factor > 2_000:
            # What is left has no square factor below 2000^2 = 4e6; it may be a square itself, or
            # hide the square of a large prime only if it is larger than 2000^3.
            exact = math.isqrt(left)
            if exact * exact == left:
                left, outside = 1, outside * exact
            elif left > 2_000**2:
                raise TooHard
            break
    if not inside:
        return Ratio.number(Fraction(0))
    return Ratio.surd(left).times(Ratio.number(Fraction(outside, number.denominator)))


def factorial(base: Ratio) -> Ratio:
    """A factorial; TooHard for large numbers."""
    number = base.rational()
    if number is None:
        return apply("factorial", base)
    if number.denominator != 1 or not 0 <= number <= 100:
        raise TooHard
    return Ratio.number(Fraction(math.factorial(number.numerator)))


def power(base: Ratio, exponent: Ratio) -> Ratio:
    """A power; of a rational number, exact where it is a square root or a whole number."""
    number, whole = base.rational(), exponent.rational()
    if whole is not None and whole.denominator == 1:
        return base.power(whole.numerator)
    if number is not None and number <= 0:
        raise TooHard
    if whole is not None and whole.denominator == 2 and abs(whole) < 20:
        square = apply("sqrt", base) if number is None else root(number)
        return square.power(whole.numerator)
    if number is not None and whole is not None:
        # Whole roots of whole numbers: the cube root of 8.
        exact = round(float(number) ** (1 / whole.denominator)) if number < 10**12 else 0
        if exact and Fraction(exact) ** whole.denominator == number:
            return Ratio.number(Fraction(exact)).power(whole.numerator)
    return apply("power", base, exponent)
