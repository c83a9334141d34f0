"""The Jinja environment of this folder's templates."""

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup

from limo_ray.core.text import duration, number
from limo_ray.report import facts

FOLDER = Path(__file__).parent


@cache
def environment(*, autoescape: bool) -> Environment:
    """With escaping for HTML, without for Markdown; a missing key is empty, at any depth."""
    env = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "n": lambda v: number(_number(v)),
        "whole": lambda v: number(_whole(v)),
        "duration": lambda v: duration(_number(v)),
        "saving": facts.saving,
        "used": facts.used,
        "md": markdown,
        "code": lambda v: str(v).replace("```", "` ` `"),
    }
    return env


def page(template: str, version: str | None, **values: Any) -> str:
    """A page of this folder, with style and script inside, as text that encodes as UTF-8.

    Args:
        template: its file; it extends page.html.j2.
        version: of limo_ray, for the foot of the page.
        values: of the template's own names.
    """
    script = (FOLDER / "report.js").read_text(encoding="utf-8")
    text = environment(autoescape=True).get_template(template).render(
        style=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=version or "",
        **values,
    )  # fmt: skip
    return clean(text)


def clean(text: str) -> str:
    """Text that UTF-8 and HTML can hold: a completion may have half a surrogate pair, or NUL."""
    return (
        text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def line(value: Any) -> str:
    """One printable line: YAML refuses control characters even in quotes."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def markdown(value: Any) -> str:
    """A value from outside as one line of text in a Markdown table."""
    text = line(value).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|`*_[]":
        text = text.replace(mark, "\\" + mark)
    return text


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    known = _number(value)
    return None if known is None else round(known)
