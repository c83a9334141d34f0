"""Charts as inline SVG in an accessible <figure>: two kinds, one look, text as text.

Colours are classes (`keep`, `easy`, `hard`, `c0`...) that report.css fills, so that they follow the
reader's light or dark mode. Every chart carries its numbers as a table under a <details>.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from limo_ray.core.text import number

WIDTH, HEIGHT = 380, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 28, 38


@dataclass(kw_only=True, slots=True)
class Series:
    """One colour of a chart: its name in the legend, its class in report.css, one value per bar."""

    name: str
    css: str
    values: Sequence[float]


@dataclass(kw_only=True, slots=True)
class Bar:
    """One horizontal bar: its parts as (name, class, value), drawn as shares of `total`."""

    label: str
    parts: list[tuple[str, str, float]]
    total: float
    note: str = ""


def histogram(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str = "problems",
    edges: Sequence[str] = (),
    note: str = "",
) -> Markup:
    """Stacked columns, one per label; `edges` (one more than labels) puts ticks between them."""
    if not labels or not any(sum(s.values) for s in series):
        return Markup("")
    step = (WIDTH - LEFT - RIGHT) / len(labels)
    base = HEIGHT - BOTTOM
    totals = [sum(s.values[i] for s in series) for i in range(len(labels))]
    ticks = _ticks(max(totals))
    scale = (base - TOP) / ticks[-1]
    out = []
    for tick in ticks:
        y = base - tick * scale
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        out.append(svg_text(LEFT - 6, y + 4, number(tick), "end"))
    for i, label in enumerate(labels):
        y = float(base)
        for s in series:
            height = s.values[i] * scale
            if height <= 0:
                continue
            y -= height
            out.append(
                f'<rect class="{s.css}" x="{LEFT + i * step + step * 0.08:.1f}" y="{y:.2f}" '
                f'width="{step * 0.84:.1f}" height="{height:.2f}">'
                f"<title>{escape(label)}: {number(s.values[i])} {escape(s.name)}</title></rect>"
            )
    marks = [(LEFT + i * step, e) for i, e in enumerate(edges)] or [
        (LEFT + (i + 0.5) * step, label) for i, label in enumerate(labels)
    ]
    # Thin the labels until they do not touch: about 5.6 units per character, 4 between two.
    room = max(len(text) for _, text in marks) * 5.6 + 4
    every = math.ceil(room / step)
    out += [svg_text(x, base + 15, text, "middle") for x, text in marks[::every]]
    out.append(svg_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, "middle"))
    out.append(svg_text(4, 12, y_label, "start"))
    rows: list[list[Any]] = [
        [label, *(s.values[i] for s in series)] for i, label in enumerate(labels)
    ]
    return figure(
        title,
        f"0 0 {WIDTH} {HEIGHT}",
        out,
        legend=[(s.name, s.css, sum(s.values)) for s in series] if len(series) > 1 else [],
        head=[x_label, *(s.name if len(series) > 1 else y_label for s in series)],
        rows=[row for row in rows if any(row[1:])],
        note=note,
    )


def bars(title: str, rows: Sequence[Bar], *, note: str = "") -> Markup:
    """One stacked horizontal bar per row, each on its own scale from 0 to its total."""
    rows = [r for r in rows if r.total > 0]
    if not rows:
        return Markup("")
    out = []
    width = WIDTH - 4
    for i, row in enumerate(rows):
        y = i * 44 + 16
        out.append(svg_text(2, y, row.label, "start", "strong"))
        out.append(svg_text(WIDTH - 2, y, row.note, "end"))
        out.append(f'<rect class="track" x="2" y="{y + 6}" width="{width}" height="16"/>')
        x = 2.0
        for name, css, value in row.parts:
            if value <= 0:
                continue
            w = width * value / row.total
            out.append(
                f'<rect class="{css}" x="{x:.2f}" y="{y + 6}" width="{w:.2f}" height="16">'
                f"<title>{escape(row.label)}: {number(value)} {escape(name)} "
                f"({value / row.total:.1%})</title></rect>"
            )
            x += w
    sums: dict[str, tuple[str, float]] = {}
    for row in rows:
        for name, css, value in row.parts:
            sums[name] = (css, sums.get(name, (css, 0.0))[1] + value)
    names = [name for name, (_, total) in sums.items() if total]
    table: list[list[Any]] = [
        [r.label, *({n: v for n, _, v in r.parts}.get(n, 0) for n in names)] for r in rows
    ]
    return figure(
        title,
        f"0 0 {WIDTH} {len(rows) * 44 + 2}",
        out,
        legend=[(name, *sums[name]) for name in names],
        head=["stage", *names],
        rows=table,
        note=note,
    )


def _ticks(top: float) -> list[float]:
    """Three to six round numbers from 0 to at least `top`."""
    step = 10.0 ** (len(str(int(top))) - 1) if top >= 1 else 0.1
    step = next(s for s in (step / 5, step / 2, step, step * 2, step * 5) if top / s <= 5)
    step = max(step, 1.0) if top >= 1 else step
    count = -int(-top // step)
    return [i * step for i in range(max(count, 1) + 1)]


def svg_text(x: float, y: float, words: str, anchor: str, css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def figure(
    title: str,
    box: str,
    body: list[str],
    *,
    legend: list[tuple[str, str, float]],
    head: list[str],
    rows: list[list[Any]],  # numbers and texts
    note: str,
) -> Markup:
    keys = "".join(
        f'<li><span class="swatch {css}"></span>{escape(name)} <b>{number(total)}</b></li>'
        for name, css, total in legend
    )
    cells = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(v)}</td>" if isinstance(v, str) else f'<td class="n">{number(v)}</td>'
            for v in row
        )
        + "</tr>"
        for row in rows
    )
    return Markup(
        f"<figure><figcaption>{escape(title)}</figcaption>"
        + (f'<ul class="legend">{keys}</ul>' if keys else "")
        + f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'
        + (f'<p class="note">{escape(note)}</p>' if note else "")
        + '<details class="numbers"><summary>Numbers</summary><table><thead><tr>'
        + "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
        + f"</tr></thead><tbody>{cells}</tbody></table></details></figure>"
    )
