"""Reading one field of a record: paths, templates, numbers as text, conditions.

Pure. A record is whatever JSON can hold; every failure is an InvalidRow that says which field.
"""

import json
import math
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

# A question or answer longer than this is a whole book that lost its line breaks, not a problem.
LONGEST_TEXT = 1_000_000

NO_COLUMN = "no column "

_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_CONDITION = re.compile(r"(.+?)\s*(==|!=|<=|>=|<|>|\bnot\s+in\b|\bin\b)\s*(.+)", re.DOTALL)
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class InvalidRow(ValueError):
    """A record that cannot become a problem: which field, why, and the value."""

    def __init__(self, field: str, error: str, value: object = None) -> None:
        super().__init__(f"{field}: {error}")
        self.field, self.error, self.value = field, error, value

    def evidence(self) -> str:
        """JSON for the ledger; the value as Python writes it, cut to 200 characters."""
        value = self.value[:200] if isinstance(self.value, str | bytes) else self.value
        return json.dumps({"field": self.field, "error": self.error, "value": repr(value)[:200]})


@lru_cache(maxsize=1024)
def path_steps(path: str) -> tuple[str, ...]:
    """`a.b[0].c` as ("a", "b", "0", "c")."""
    return tuple(index or name for index, name in _STEP.findall(path)) or (path,)


@lru_cache(maxsize=1024)
def template_pieces(template: str) -> tuple[tuple[str, bool], ...]:
    """A template as (literal text, False) and (path, True); a plain path is one."""
    if "{" not in template:
        return ((template, True),)
    found: list[tuple[str, bool]] = []
    at = 0
    for match in _PIECE.finditer(template):
        found.append((template[at : match.start()], False))
        found.append((match[1], True) if match[1] else (match[0][0], False))
        at = match.end()
    found.append((template[at:], False))
    return tuple(piece for piece in found if piece[0])


def lookup(record: Any, path: str, field: str) -> Any:
    """The value at a path; None when it, or something on the way to it, is null."""
    if isinstance(record, dict) and path in record:
        return record[path]
    value = record
    for step in path_steps(path):
        if value is None:
            return None
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise InvalidRow(field, f"{NO_COLUMN}{path!r}", value)
    return value


def known_paths(record: Any, path: str) -> list[str]:
    """The paths that there are where a path goes wrong: `a.b` and `a.c` for `a.x`."""
    value, at = record, ""
    for step in path_steps(path):
        if isinstance(value, dict) and step in value:
            value, at = value[step], f"{at}.{step}" if at else step
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value, at = value[int(step)], f"{at}[{step}]"
        else:
            break
    names = list(value) if isinstance(value, dict) else []
    return [f"{at}.{name}" if at else str(name) for name in names]


def text_of(record: Any, template: str, field: str) -> str:
    """The text of a column or template; InvalidRow when it is empty or no text."""
    if "{" not in template:
        return plain_text(lookup(record, template, field), field)
    filled = ""
    gap: str | None = None  # the literal since the last value, when it is only white space
    for piece, is_path in template_pieces(template):
        if not is_path:
            filled += piece
            gap = piece if piece.isspace() else None
            continue
        value = lookup(record, piece, field)
        filler = json.dumps(value) if isinstance(value, list) else plain_text(value, field)
        if gap and field == "question" and (before := filled[: -len(gap)]) and before[-1].isalnum():
            filled = f"{before},{gap}"
        filled += filler
        gap = None
    return plain_text(filled, field)


def plain_text(value: Any, field: str) -> str:
    """A value as stripped text; numbers without float noise (27.0 is "27")."""
    if isinstance(value, str):
        if match := _UNWRITABLE.search(value):
            what = "a NUL character" if match[0] == "\0" else "a lone surrogate"
            raise InvalidRow(field, f"holds {what} at {match.start()}", value)
        if len(value) > LONGEST_TEXT:
            raise InvalidRow(field, f"longer than {LONGEST_TEXT:,} characters", value)
        stripped = value.strip()
        if not stripped:
            raise InvalidRow(field, "empty", value)
        return stripped
    if value is None:
        raise InvalidRow(field, "null", value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return plain_number(value, field)
    raise InvalidRow(field, f"not text or a number but {kind_of(value)}", value)


def plain_number(value: int | float | Decimal, field: str) -> str:
    """A number as plain digits. 15 digits are what a float holds for certain: more are noise."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise InvalidRow(field, "not a finite number", value)
    exact = Decimal(format(value, ".15g")) if isinstance(value, float) else value
    digits = format(exact, "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "a boolean", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


@lru_cache(maxsize=1024)
def parse_condition(condition: str) -> tuple[str, str, Any]:
    """`Year < 2024` as ("Year", "<", 2024); ValueError when it is no condition."""
    match = _CONDITION.fullmatch(condition.strip())
    if match is None:
        ops = "==, !=, <, <=, >, >=, in, not in"
        raise ValueError(f"{condition!r} is not of the form `column op value`, op one of {ops}")
    path, op, raw = match[1], " ".join(match[2].split()), match[3]
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw
    if op.endswith("in") and not isinstance(value, list):
        raise ValueError(f"{condition!r} wants a JSON list after `{op}`, got {raw}")
    if op in {"<", "<=", ">", ">="} and not _is_number(value):
        raise ValueError(f"{condition!r} wants a number after `{op}`, got {raw}")
    return path, op, value


def holds(record: Any, condition: str) -> tuple[bool, Any]:
    """Whether a record meets a condition, and the value that decided."""
    path, op, wanted = parse_condition(condition)
    value = lookup(record, path, "where")
    if op in {"==", "in"}:
        return any(_equal(value, w) for w in (wanted if op == "in" else [wanted])), value
    if op in {"!=", "not in"}:
        return not any(_equal(value, w) for w in (wanted if op == "not in" else [wanted])), value
    size = _as_number(value)
    if size is None:
        return False, value
    compared = {"<": size < wanted, "<=": size <= wanted, ">": size > wanted, ">=": size >= wanted}
    return compared[op], value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _as_number(value: Any) -> float | None:
    if _is_number(value):
        return float(value)
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _equal(value: Any, wanted: Any) -> bool:
    if _is_number(wanted):
        return _as_number(value) == wanted
    return type(value) is type(wanted) and bool(value == wanted)
