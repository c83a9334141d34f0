"""The browsable attempts of an evaluation's report, packed into the page as examples are."""

from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from limo_ray.core.records import Attempt, Problem
from limo_ray.report.example_browser import (
    LIMIT,
    QUESTION,
    STATIC,
    Browser,
    clip,
    pack,
    split_thinking,
)
from limo_ray.report.latex_html import render, render_answer
from limo_ray.report.templates import clean
from limo_ray.verify import show

# model, benchmark, the item's number, the item, one attempt at it
Shown = tuple[str, str, int, Problem, Attempt]


def attempts_browser(shown: list[Shown], env: Environment) -> Browser | None:
    """Attempts as rows for the page; whole items, taken evenly, where there are more than LIMIT."""
    if not shown:
        return None
    chosen = _few(shown)
    lengths = [len(attempt.completion) for *_, attempt in chosen]
    rows, packed, cap = pack(lambda cap: [_row(one, cap, env) for one in chosen], lengths)
    return Browser(
        packed=packed,
        first=[{"head": row["head"], "body": row["body"]} for row in rows[:STATIC]],
        facets={key: list(dict.fromkeys(row[key] for row in rows))
                for key in ("benchmark", "model", "verdict")},
        sorts=[("tokens", "Tokens"), ("item", "Item")],
        shortened=sum(n > cap for n in lengths),
        rows=len(rows),
    )  # fmt: skip


def _few(shown: list[Shown]) -> list[Shown]:
    """All attempts at so many items that LIMIT is kept, by item, then model, then index."""
    places: dict[tuple[str, int], list[Shown]] = {}
    for one in shown:
        places.setdefault((one[1], one[2]), []).append(one)
    order = list(places)
    every = max(1, -(-len(shown) // LIMIT))
    return [one for place in order[::every] for one in places[place]][:LIMIT]


def _row(shown: Shown, cap: int, env: Environment) -> dict[str, Any]:
    model, benchmark, number, problem, attempt = shown
    think, rest = split_thinking(attempt.completion, cap)
    macros = env.get_template("attempt.html.j2").module
    start = " ".join(problem.question.split())
    whole = len(start) <= 180 and "\n" not in problem.question.strip()
    gold = show(problem.answer, problem.domain)
    shown_fields: dict[str, Any] = {
        "model": model, "benchmark": benchmark, "number": number, "attempt": attempt,
        "said": None if attempt.extracted is None else _answer(attempt.extracted),
    }  # fmt: skip
    body = macros.body(  # type: ignore[attr-defined]
        **shown_fields, question=None if whole else clip(problem.question, QUESTION),
        gold=_answer(gold), think=think, answer=rest,
    )  # fmt: skip
    head = macros.head(  # type: ignore[attr-defined]
        **shown_fields,
        question=render(start if len(start) <= 180 else start[:170].rsplit(" ", 1)[0] + " …"),
    )
    return {
        "head": clean(head), "body": clean(body), "model": clean(model), "benchmark": benchmark,
        "verdict": str(attempt.verdict),
        "text": clean(f"{problem.question[:QUESTION]} {gold} {attempt.extracted or ''}".lower()),
        "sort": {"tokens": attempt.completion_tokens, "item": number},
    }  # fmt: skip


def _answer(text: str) -> Markup:
    return render_answer(text[:300])
