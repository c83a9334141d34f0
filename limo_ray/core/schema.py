"""Every key of a config schema, with its type, its default and what it means.

A field's documentation is the string that follows it in its class: no other place is looked at.
"""

import ast
import inspect
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    path: str
    """Such as `difficulty.weak.rule.budget`, `sources[].path`, `engines.NAME.model`."""
    type: str
    """As a user reads it: int, str, list of str, mapping of float."""
    default: str
    """As YAML; empty where the value is required, and for a section."""
    doc: str
    section: Any = None
    """For a key that has keys of its own: an object of the schema below it, with its defaults."""

    @property
    def required(self) -> bool:
        return not self.default and self.section is None


def keys(defaults: Any, path: str = "") -> Iterator[Key]:
    """The keys of a config, those of nested ones after the key that holds them.

    Args:
        defaults: an object of the schema, such as `CurateConfig()`.
        path: of the key that holds it.
    """
    schema = type(defaults)
    hints = typing.get_type_hints(schema)
    docs = field_docs(schema)
    for each in fields(schema):
        key = f"{path}.{each.name}" if path else each.name
        inner, suffix = _section(hints[each.name])
        doc, value = docs.get(each.name, ""), getattr(defaults, each.name)
        if inner is None:
            yield Key(key, _type_name(hints[each.name]), _as_yaml(value), doc)
            continue
        below = value if isinstance(value, inner) else inner()
        doc = doc or inspect.cleandoc(inner.__doc__ or "").partition("\n\n")[0]
        if doc.startswith(f"{inner.__name__}("):  # what dataclass writes where there is none
            doc = ""
        yield Key(key + suffix, _type_name(hints[each.name]), "", doc, below)
        yield from keys(below, key + suffix)


def field_docs(schema: type) -> dict[str, str]:
    """The string after each field of a class and of its bases, by the field's name."""
    found: dict[str, str] = {}
    for owner in reversed(schema.__mro__):
        if is_dataclass(owner):
            found |= _docs_of_file(inspect.getfile(owner)).get(owner.__name__, {})
    return found


@cache
def _docs_of_file(file: str) -> dict[str, dict[str, str]]:
    """Class name to field name to documentation."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(file).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = docs = {}
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    docs[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def _section(hint: Any) -> tuple[Any, str]:
    """The dataclass that a field holds, and how its keys are reached: "", [] or .NAME."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint, ""
    inner = [each for each in typing.get_args(hint) if is_dataclass(each)]
    if not inner:
        return None, ""
    suffix = {list: "[]", dict: ".NAME"}.get(typing.get_origin(hint), "")
    return inner[0], suffix


def _type_name(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {_type_name(inner[0])}"
    if origin is dict:
        return f"mapping of {_type_name(inner[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if each is type(None) else _type_name(each) for each in inner)
    if is_dataclass(hint):
        return "section"
    return "any" if hint is Any else str(hint.__name__)


def _as_yaml(value: Any) -> str:
    if value == "???":
        return ""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
