"""Values of a program as text that carries no code, so that they can be compared outside.

One JSON value for each value: null, true, text and small numbers as they are, all else a list that
begins with its kind. A value is described by its exact contents: what its own methods say of it
(`__eq__`, `__repr__`) does not count.
"""

import collections
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

DEEPEST = 200  # levels of nesting
LONGEST = 20_000  # digits of a fraction, which is reduced in quadratic time
MOST_ALIKE = 64  # members of a set, or keys, with one hash: more of them is an attack on time


def encode(value: object) -> Any:
    """A value as JSON's own types; ValueError when it is nested too deeply."""
    return _encode(value, 0)


def _encode(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    simple = _simple(value, kind)
    if simple is not None:
        return simple
    depth += 1
    for base, name in (
        (list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "set"),
    ):  # fmt: skip
        if issubclass(kind, base):
            return [name, *(_encode(v, depth) for v in base.__iter__(value))]
    if issubclass(kind, dict):
        name = "ordered" if issubclass(kind, collections.OrderedDict) else "dict"
        return [name, *([_encode(k, depth), _encode(v, depth)] for k, v in dict.items(value))]
    if kind in (_KEYS, _ITEMS):  # they are equal to sets
        return ["set", *(_encode(v, depth) for v in value)]
    if kind is range:
        return ["range", *(_encode(v, depth) for v in (value.start, value.stop, value.step))]
    if kind is collections.deque:
        return ["deque", _encode(value.maxlen, depth), *(_encode(v, depth) for v in value)]
    try:
        return ["object", bool(value)]
    except Exception:
        return ["object", None]  # its truth cannot be asked for


def _simple(value: Any, kind: type) -> Any:
    if issubclass(kind, int):
        number = int.__index__(value)
        return number if -(2**53) < number < 2**53 else ["int", hex(number)]
    if issubclass(kind, float):
        return ["float", float.hex(value)]
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, complex):
        return ["complex", float.hex(value.real), float.hex(value.imag)]
    if issubclass(kind, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    if kind is Fraction:
        return ["fraction", hex(value.numerator), hex(value.denominator)]
    if kind is Decimal:
        return ["decimal", str(value)]
    return None


_KEYS: type = type({}.keys())
_ITEMS: type = type({}.items())


class Thing:
    """A value that cannot be described: equal to nothing, and true or not."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, truth: bool | None) -> None:
        self._truth = truth

    def __bool__(self) -> bool:
        if self._truth is None:
            raise ValueError("it has no truth")
        return self._truth

    def __eq__(self, other: object) -> bool:
        return False


def decode(described: Any) -> Any:
    """The value that was described, of Python's own types only.

    Raises:
        ValueError: for what `encode` does not write.
    """
    try:
        return _decode(described, 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"no value: {type(error).__name__}") from error


def _decode(described: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if described is None or isinstance(described, bool | int | str):
        return described
    if not isinstance(described, list) or not described:
        raise ValueError("no value")
    kind, *rest = described
    depth += 1
    match kind:
        case "list":
            return [_decode(v, depth) for v in rest]
        case "tuple":
            return tuple(_decode(v, depth) for v in rest)
        case "set":
            return set(_hashable([_decode(v, depth) for v in rest]))
        case "dict" | "ordered":
            keys = _hashable([_decode(k, depth) for k, _ in rest])
            pairs = zip(keys, [_decode(v, depth) for _, v in rest], strict=True)
            return dict(pairs) if kind == "dict" else collections.OrderedDict(pairs)
        case "range":
            return range(*(_decode(v, depth) for v in rest))
        case "deque":
            return collections.deque((_decode(v, depth) for v in rest[1:]), _decode(rest[0], depth))
        case "object":
            (truth,) = rest
            return Thing(truth if isinstance(truth, bool) else None)
    return _number(kind, [part for part in rest if isinstance(part, str)])


def _hashable(values: list[Any]) -> list[Any]:
    alike = collections.Counter(hash(value) for value in values)
    if any(count > MOST_ALIKE for count in alike.values()):
        raise ValueError("too many values with one hash")
    return values


def _number(kind: Any, parts: list[str]) -> Any:
    match kind, parts:
        case "int", [number]:
            return int(number, 16)
        case "float", [number]:
            return float.fromhex(number)
        case "complex", [real, imaginary]:
            return complex(float.fromhex(real), float.fromhex(imaginary))
        case "bytes", [data]:
            return bytes.fromhex(data)
        case "fraction", [numerator, denominator] if len(numerator + denominator) < LONGEST:
            return Fraction(int(numerator, 16), int(denominator, 16))
        case "decimal", [number]:
            return Decimal(number)
    raise ValueError("no value")


def dumps(value: object) -> bytes:
    """A description as one line of bytes."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
