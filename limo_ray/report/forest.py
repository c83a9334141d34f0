"""Scores and differences with their intervals, one under the other (a forest plot), as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from limo_ray.report.charts import WIDTH, figure, svg_text

STEP = 36  # of one row
HEAD = 26  # of a group's name
EDGE = 8
LABEL = 36  # characters that have room beside the numbers


@dataclass(kw_only=True, slots=True)
class ForestRow:
    """One estimate in per cent, with its interval; `css` is a colour class of report.css."""

    label: str
    css: str
    low: float
    value: float
    high: float


@dataclass(kw_only=True, slots=True)
class ForestGroup:
    """Rows under one name, and values of others to compare with, as (name, value)."""

    name: str
    rows: list[ForestRow]
    marks: list[tuple[str, float]] = field(default_factory=list)


def forest(
    title: str, groups: Sequence[ForestGroup], *, signed: bool = False, note: str = ""
) -> Markup:
    """All groups on one scale: 0 to 100 or a round number below, or around zero if `signed`."""
    rows = [row for group in groups for row in group.rows]
    if not rows:
        return Markup("")
    every = [v for row in rows for v in (row.low, row.high)]
    every += [v for group in groups for _, v in group.marks]
    low, high, step = scale_of(min(every), max(every), signed)
    scale = (WIDTH - 2 * EDGE) / (high - low)

    def at(value: float) -> float:
        return EDGE + (value - low) * scale

    out: list[str] = []
    y = 4.0
    for group in groups:
        if group.name:
            out.append(svg_text(2, y + 16, group.name, "start", "strong"))
            y += HEAD
        for row in group.rows:
            value_text = f"{row.value:+.1f}" if signed else f"{row.value:.1f}"
            ends = [f"{end:+.1f}" if signed else f"{end:.1f}" for end in (row.low, row.high)]
            whole = f"{value_text} [{ends[0]}, {ends[1]}]"
            middle = y + 24
            short = row.label if len(row.label) <= LABEL else row.label[: LABEL - 1] + "…"
            out.append(svg_text(2, y + 12, short, "start"))
            out.append(svg_text(WIDTH - 2, y + 12, whole, "end"))
            out.append(
                f'<g class="interval {row.css}"><title>{escape(row.label)}: {whole}</title>'
                f'<line x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" y1="{middle:.1f}" '
                f'y2="{middle:.1f}"/><circle cx="{at(row.value):.1f}" cy="{middle:.1f}" r="4.5"/>'
                "</g>"
            )
            y += STEP
        if group.marks:
            value_text = ", ".join(f"{name} {value:.1f}" for name, value in group.marks)
            out.append(svg_text(2, y + 12, f"paper: {value_text}", "start"))
            middle = y + 23
            for name, value in group.marks:
                x = at(value)
                out.append(
                    f'<path class="mark" d="M{x:.1f} {middle - 5:.1f}l5 5l-5 5l-5 -5z">'
                    f"<title>{escape(name)}: {value:.1f} (paper)</title></path>"
                )
            y += STEP
        y += 8
    grid = []
    tick = low
    while tick <= high + 1e-9:
        x = at(tick)
        css = "zero" if signed and abs(tick) < 1e-9 else "grid"
        grid.append(f'<line class="{css}" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{y:.1f}"/>')
        anchor = "start" if x < 20 else "end" if x > WIDTH - 20 else "middle"
        label = f"{tick:+.0f}" if signed and tick else f"{tick:.0f}"
        grid.append(svg_text(x, y + 14, label, anchor))
        tick += step
    table = [
        [f"{group.name} {row.label}".strip(), row.low, row.value, row.high]
        for group in groups
        for row in group.rows
    ]
    return figure(
        title, f"0 0 {WIDTH} {y + 20:.0f}", grid + out, legend=[],
        head=["", "low", "points" if signed else "per cent", "high"], rows=table, note=note,
    )  # fmt: skip


def scale_of(low: float, high: float, signed: bool) -> tuple[float, float, float]:
    """Ends and step of the axis."""
    if not signed:
        top = next(t for t in (5, 10, 20, 25, 50, 100) if high <= t or t == 100)
        return 0.0, float(top), top / 5
    reach = max(abs(low), abs(high), 1.0)
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 25, 50) if reach <= 2 * s or s == 50)
    return -2.0 * step, 2.0 * step, float(step)
