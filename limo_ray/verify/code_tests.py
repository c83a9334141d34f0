"""The tests of a program, taken apart: what runs inside the sandbox, what is compared outside.

Of `assert f(2) == [4, 5]` the program's side gets `f(2)` and sends its value; that it must be
[4, 5] is known outside only. So a program gains nothing by an object that is equal to everything,
by changed builtins, or by reading its tests. What cannot be taken apart so runs inside as a whole.
"""

import ast
import collections
import decimal
import fractions
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda member, values: member in values,
    ast.NotIn: lambda member, values: member not in values,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_NUMBERS = (int, float, complex, fractions.Fraction, decimal.Decimal)
_JOINED = (str, bytes, list, tuple)
# Names whose calls with literals are values that can be known outside.
_BUILTINS = (set, frozenset, list, tuple, dict, float, int, complex, str, bytes, bytearray, range)
_FUNCTIONS = (all, any, sorted, len, sum, min, max, abs, round, bool, chr, ord)
_MAKERS: dict[str, Callable[..., Any]] = {made.__name__: made for made in _BUILTINS + _FUNCTIONS}
_MAKERS |= {"Counter": collections.Counter, "OrderedDict": collections.OrderedDict}
_MAKERS |= {"isclose": math.isclose, "deque": collections.deque}
_MAKERS |= {"Fraction": fractions.Fraction, "Decimal": decimal.Decimal}
_MATH = {f"math.{name}": getattr(math, name) for name in dir(math) if name[0] != "_"}
_COSTLY = {"math.factorial", "math.comb", "math.perm", "math.prod"}
_LARGEST = 100_000  # bits of a number, items of a list, that are worked out outside
# What comparing a program's values can raise: then the test fails, as it would inside.
FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Step(NamedTuple):
    """One statement of the tests.

    `inside` is what the program's side evaluates: expressions where `condition` says what must hold
    of their values, else a statement.
    """

    inside: tuple[str, ...]
    condition: ast.expr | None


class Failed:
    """In place of the value of an expression that raised an exception."""


class _Hole(NamedTuple):
    number: int


def steps(tests: Sequence[str], entry_point: str | None) -> tuple[Step, ...]:
    """The tests as steps, in order; SyntaxError when they are no Python."""
    statements: list[ast.stmt] = []
    for test in tests:
        statements += ast.parse(test).body
    own = {entry_point} if entry_point else set()
    return tuple(_step(statement, own) for statement in _unrolled(statements))


def _unrolled(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The body of a `def check(candidate)` where `check(...)` is called, as in HumanEval."""
    checks: dict[str, ast.FunctionDef] = {}
    for statement in statements:
        if isinstance(statement, ast.FunctionDef) and _can_be_unrolled(statement, statements):
            checks[statement.name] = statement
            continue
        match statement:
            case ast.Expr(ast.Call(ast.Name(name), [argument], [])) if name in checks:
                parameter = checks[name].args.args[0].arg
                yield from ast.parse(f"{parameter} = {ast.unparse(argument)}").body
                yield from checks[name].body
            case _:
                yield statement


def _can_be_unrolled(function: ast.FunctionDef, statements: list[ast.stmt]) -> bool:
    """Whether it is defined once, called only as a statement, and does nothing but its body."""
    arguments = function.args
    others = [arguments.posonlyargs, arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    if function.decorator_list or any(others) or len(arguments.args) != 1 or arguments.defaults:
        return False
    for node in (n for statement in function.body for n in ast.walk(statement)):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal):
            return False
    names = [n for s in statements for n in ast.walk(s) if isinstance(n, ast.Name)]
    uses = sum(n.id == function.name for n in names)
    calls = sum(
        isinstance(s, ast.Expr)
        and isinstance(s.value, ast.Call)
        and isinstance(s.value.func, ast.Name)
        and s.value.func.id == function.name
        and len(s.value.args) == 1
        and not s.value.keywords
        and not isinstance(s.value.args[0], ast.Starred)
        for s in statements
    )
    return uses == calls == 1


def _step(statement: ast.stmt, own: set[str]) -> Step:
    if isinstance(statement, ast.Assert):
        for known in (_MAKERS.keys() - own, set()):
            split = _Split(known)
            condition = split.condition(statement.test)
            if split.holes:  # else the names may be the program's: sum(10, 15) == 6
                break
        return Step(tuple(split.holes), condition)
    return Step((ast.unparse(statement),), None)


class _Split:
    """An asserted expression, with what must be evaluated inside replaced by holes."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.holes: list[str] = []

    def condition(self, node: ast.expr) -> ast.expr:
        """The node as what is evaluated outside, down to what must be evaluated inside."""
        value = self._pure(node)
        if value is not None:
            return value
        return self._logical(node) or self._operand(node)

    def _logical(self, node: ast.expr) -> ast.expr | None:
        """Comparisons and what joins them; None for another node."""
        match node:
            case ast.BoolOp(op, values):
                return ast.BoolOp(op, [self.condition(value) for value in values])
            case ast.UnaryOp(ast.Not(), operand):
                return ast.UnaryOp(ast.Not(), self.condition(operand))
            case ast.Compare(left, ops, rights) if self._outside([left, *rights], ops):
                compared = [self.condition(right) for right in [left, *rights]]
                return ast.Compare(compared[0], ops, compared[1:])
            case ast.IfExp(test, body, orelse):
                parts = [self.condition(part) for part in (test, body, orelse)]
                return ast.IfExp(*parts)
            case ast.Call(
                ast.Name("all" | "any" as name), [ast.List(items) | ast.Tuple(items)], []
            ):
                if items and name in self.known and not _starred(items):
                    joined = ast.And() if name == "all" else ast.Or()
                    return ast.BoolOp(joined, [self.condition(item) for item in items])
            case ast.Call(ast.Name("bool"), [value], []) if "bool" in self.known:
                double = ast.UnaryOp(ast.Not(), self.condition(value))
                return ast.UnaryOp(ast.Not(), double)
            case ast.Call(func, [one, other], options) if self._is_close(func, options):
                keywords = [ast.keyword(o.arg, self.condition(o.value)) for o in options]
                return ast.Call(func, [self.condition(one), self.condition(other)], keywords)
        return None

    def _is_close(self, function: ast.expr, options: list[ast.keyword]) -> bool:
        """Whether it is math.isclose with known tolerances."""
        name = _dotted(function)
        known = name == "math.isclose" or (name == "isclose" and name in self.known)
        return known and all(self._pure(option.value) is not None for option in options)

    def _outside(self, operands: list[ast.expr], ops: list[ast.cmpop]) -> bool:
        """Whether a comparison has a known side, and means outside what it means inside."""
        pure = [self._pure(operand) is not None for operand in operands]
        for op, right, known in zip(ops, operands[1:], pure[1:], strict=True):
            if isinstance(op, ast.In | ast.NotIn) and not known:
                return False
            if isinstance(op, ast.Is | ast.IsNot) and not (
                isinstance(right, ast.Constant) and right.value in (None, True, False)
            ):
                return False
        return any(pure)

    def _operand(self, node: ast.expr) -> ast.expr:
        """Arithmetic with a known side; else a hole."""
        match node:
            case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right):
                if self._pure(left) is not None or self._pure(right) is not None:
                    return ast.BinOp(self.condition(left), op, self.condition(right))
            case ast.Call(ast.Name("abs" | "round" as name) as func, [first, *more], []):
                apart = isinstance(first, ast.BinOp)
                if name in self.known and apart and all(self._pure(m) is not None for m in more):
                    return ast.Call(
                        func, [self.condition(argument) for argument in (first, *more)], []
                    )
        self.holes.append(ast.unparse(node))
        return ast.Constant(_Hole(len(self.holes) - 1))  # type: ignore[arg-type]

    def _pure(self, node: ast.expr) -> ast.Constant | None:
        """The node's value where it is known outside: of literals and what is made of them."""
        try:
            return ast.Constant(_value(node, self.known))
        except (*FAILURES, MemoryError, _Unknown):
            return None


class _Unknown(Exception):
    """An expression whose value is not known outside."""


def _value(node: ast.expr, known: set[str]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.List(items):
            return [_value(item, known) for item in items]
        case ast.Tuple(items):
            return tuple(_value(item, known) for item in items)
        case ast.Set(items):
            return {_value(item, known) for item in items}
        case ast.Dict(keys, values) if None not in keys:
            made = [_value(value, known) for value in values]
            return dict(zip([_value(k, known) for k in keys if k], made, strict=True))
        case ast.UnaryOp(op, operand):
            return _SIGNS[type(op)](_value(operand, known))
        case ast.BinOp(left, op, right):
            return _arithmetic(_value(left, known), op, _value(right, known))
        case ast.Attribute() if (constant := _MATH.get(_dotted(node))) and not callable(constant):
            return constant
        case ast.Call(func, arguments, keywords):
            return _made(_dotted(func), arguments, keywords, known)
    raise _Unknown


def _made(
    name: str, arguments: list[ast.expr], keywords: list[ast.keyword], known: set[str]
) -> Any:
    """The value of a call of a known name with known arguments."""
    maker = _MAKERS.get(name) if name in known else _MATH.get(name) if known else None
    if not callable(maker) or name in _COSTLY:
        raise _Unknown
    values = [_value(argument, known) for argument in arguments]
    if name == "range" and len(range(*values)) > _LARGEST:
        raise _Unknown
    options = {k.arg: _value(k.value, known) for k in keywords if k.arg}
    if len(options) != len(keywords):
        raise _Unknown
    return maker(*values, **options)


def _arithmetic(left: Any, op: ast.operator, right: Any) -> Any:
    """A small result of + - * / // % ** on known values; _Unknown for a large one."""
    numbers = isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS)
    if isinstance(op, ast.Pow) and numbers:
        if abs(right) > 1000 or (isinstance(left, int) and left.bit_length() * right > _LARGEST):
            raise _Unknown
        return left**right
    if isinstance(op, ast.Mult) and not numbers:
        times, values = (left, right) if isinstance(left, int) else (right, left)
        if not isinstance(times, int) or times * len(values) > _LARGEST:
            raise _Unknown
        return times * values
    if isinstance(op, ast.FloorDiv) and numbers:
        return left // right
    if isinstance(op, ast.Mod) and numbers:
        return left % right
    return _combined(left, op, right)


def _combined(left: Any, op: ast.operator, right: Any) -> Any:
    """+ - * / of numbers, + of texts and lists, - of sets: cheap whatever a program sends."""
    numbers = isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS)
    match op:
        case ast.Add() if numbers or (type(left) is type(right) and isinstance(left, _JOINED)):
            return left + right
        case ast.Sub() if numbers or (isinstance(left, set) and isinstance(right, set)):
            return left - right
        case ast.Mult() if numbers:
            return left * right
        case ast.Div() if numbers:
            return left / right
    raise _Unknown


def _starred(items: list[ast.expr]) -> bool:
    return any(isinstance(item, ast.Starred) for item in items)


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(ast.Name(module), name):
            return f"{module}.{name}"
    return ""


def holds(condition: ast.expr, values: Sequence[Any]) -> bool:
    """Whether a step's condition holds of the values that the program's side sent."""
    try:
        return bool(_evaluated(condition, values))
    except (*FAILURES, _Unknown):
        return False


def _evaluated(node: ast.expr, values: Sequence[Any]) -> Any:
    match node:
        case ast.Constant(_Hole() as hole):
            if isinstance(values[hole.number], Failed):
                raise ValueError("it raised an exception")
            return values[hole.number]
        case ast.Constant(value):
            return value
        case ast.BoolOp(op, operands):
            result: Any = None
            for operand in operands:
                result = _evaluated(operand, values)
                if bool(result) is isinstance(op, ast.Or):
                    break
            return result
        case ast.IfExp(test, body, orelse):
            return _evaluated(body if _evaluated(test, values) else orelse, values)
        case ast.UnaryOp(_, operand):
            return not _evaluated(operand, values)
        case ast.Compare(left, compared, rights):
            one = _evaluated(left, values)
            for how, right in zip(compared, rights, strict=True):
                other = _evaluated(right, values)
                if not _COMPARE[type(how)](one, other):
                    return False
                one = other
            return True
        case ast.BinOp(left, sign, right):
            return _combined(_evaluated(left, values), sign, _evaluated(right, values))
        case ast.Call(func, arguments, keywords):
            given = [_evaluated(argument, values) for argument in arguments]
            options = {str(k.arg): _evaluated(k.value, values) for k in keywords}
            known: dict[str, Callable[..., Any]] = {"abs": abs, "round": round}
            called = known.get(_dotted(func), math.isclose)
            return called(*given, **options)
    raise _Unknown
