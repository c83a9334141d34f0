"""The browsable examples of the report: HTML per example, compressed into the page as one string.

The page's script unpacks the string and fills an example's body only when a reader opens it. Long
chains are shortened in the middle until the whole fits; the full text is in examples.parquet.
"""

import base64
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from limo_ray.report.latex_html import render, render_answer
from limo_ray.report.templates import clean

TEXT_BUDGET = 5_000_000  # characters of chains before compression
PAGE_BUDGET = 2_400_000  # characters of base64 in the page
LIMIT = 2_000  # examples in the page, the first ones; more would not fit
QUESTION = 6_000  # characters of a question
STATIC = 5  # examples that stand in the page itself, for readers without scripts


@dataclass(kw_only=True, slots=True)
class Browser:
    """What the template needs: the packed rows, the first ones as HTML, and the filters' values."""

    packed: str
    first: list[dict[str, str]]
    facets: dict[str, list[str]]
    sorts: list[tuple[str, str]]
    shortened: int
    rows: int


def browser(examples: list[dict[str, Any]], env: Environment) -> Browser:
    """Examples, best first, as rows for the page. Deterministic; at most PAGE_BUDGET characters."""
    examples = examples[:LIMIT]
    lengths = [len(chain(e)) for e in examples]
    rows, packed, cap = pack(
        lambda cap: [_row(i, e, cap, env) for i, e in enumerate(examples)], lengths
    )
    return Browser(
        packed=packed,
        first=[{"head": r["head"], "body": r["body"]} for r in rows[:STATIC]],
        facets={
            key: sorted({str(e[key]) for e in examples if e.get(key) is not None})
            for key in ("source", "domain", "teacher")
        },
        sorts=[(key, label(key)) for key in numeric(examples)],
        shortened=sum(n > cap for n in lengths),
        rows=len(rows),
    )


def pack(
    made: Callable[[int], list[dict[str, Any]]], lengths: list[int]
) -> tuple[list[dict[str, Any]], str, int]:
    """Rows for the page, packed, with texts cut to the largest length that fits.

    Args:
        made: the rows, their texts cut to so many characters each.
        lengths: of the texts.
    """
    cap = _level(lengths, TEXT_BUDGET)
    while True:
        rows = made(cap)
        text = clean(json.dumps(rows, allow_nan=False, ensure_ascii=False, separators=(",", ":")))
        packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
        if len(packed) <= PAGE_BUDGET or cap <= 200:
            return rows, packed, cap
        cap = min(cap, max(lengths)) * PAGE_BUDGET * 9 // (len(packed) * 10)


Clipped = tuple[Markup, int, Markup]  # start, characters left out, end


def split_thinking(text: str, cap: int) -> tuple[Clipped | None, Clipped]:
    """A completion's thinking, if it has any, and its answer, both cut to fit `cap` together."""
    think, closed, rest = text.partition("</think>")
    if not closed:
        think, rest = "", text
    # The end holds the answer, so thinking gives way first, and to no less than half of the room.
    room = max(cap // 2, cap - len(rest)) if think else 0
    thought = clip(think.replace("<think>", "").strip(), room) if think else None
    return thought, clip(rest.strip(), cap - min(room, len(think)))


def chain(example: dict[str, Any]) -> str:
    """The example's solution; without that column, its last message."""
    if example.get("solution"):
        return example["solution"]
    messages = example.get("messages")
    return messages[-1]["content"] if messages else ""


def numeric(examples: list[dict[str, Any]]) -> list[str]:
    """The columns to sort by: the total score, the criteria, then tokens and pass rate."""
    keys = {k: None for e in examples for k in e if k == "score" or k.startswith("score_")}
    present = {k for e in examples for k in e}
    return sorted(keys, key=lambda k: k != "score") + [
        k for k in ("tokens", "pass_rate") if k in present
    ]


def label(key: str) -> str:
    """A column's name for readers: score_elaborated is "Elaborated"."""
    return key.removeprefix("score_").replace("_", " ").capitalize()


def _row(index: int, example: dict[str, Any], cap: int, env: Environment) -> dict[str, Any]:
    think, rest = split_thinking(chain(example), cap)
    macros = env.get_template("example.html.j2").module
    scores = [k for k in numeric([example]) if k.startswith("score")]
    ask = example.get("question") or ""
    start = " ".join(ask.split())
    whole = len(start) <= 180 and "\n" not in ask.strip()
    body = macros.body(  # type: ignore[attr-defined]
        example=example,
        question=None if whole else clip(ask, QUESTION),
        answer=render_answer(str(example.get("answer") or "")),
        think=think,
        chain=rest,
        scores=[(label(k), example[k]) for k in scores],
    )
    head = macros.head(  # type: ignore[attr-defined]
        example=example,
        question=render(start if len(start) <= 180 else start[:170].rsplit(" ", 1)[0] + " …"),
        rank=index + 1,
    )
    return {
        "head": clean(head),
        "body": clean(body),
        "text": clean(f"{ask[:QUESTION]} {example.get('answer', '')}".lower()),
        **{k: clean(str(example.get(k))) for k in ("source", "domain", "teacher")},
        "sort": {k: _sortable(example.get(k)) for k in numeric([example])},
    }


def clip(text: str, room: int) -> tuple[Markup, int, Markup]:
    """The text as HTML; where it is longer than `room`, its start, what is left out, its end."""
    if len(text) <= room:
        return render(text), 0, Markup("")
    head = max(1, room * 2 // 3)
    tail = max(1, room - head)
    return render(text[:head]), len(text) - head - tail, render(text[-tail:])


def _level(lengths: list[int], total: int) -> int:
    """The largest length to which texts may be cut so that together they stay within `total`."""
    left = total
    for i, n in enumerate(sorted(lengths)):
        share = left // (len(lengths) - i)
        if n > share:
            return share
        left -= n
    return max(lengths, default=0)


def _sortable(value: Any) -> float | None:
    """A score, or a pass rate like "2/8", as a number that JSON knows."""
    if isinstance(value, str):
        correct, _, finished = value.partition("/")
        return int(correct) / int(finished) if correct.isdigit() and finished.isdigit() else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None
