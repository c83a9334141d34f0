"""Line charts in the look of the curation report's charts (report.charts)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from limo_ray.core.text import number
from limo_ray.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, figure

MOST = 400  # points drawn of one line
NAMES = 96  # room for names beside the lines' ends
APART = 13  # between two names


@dataclass(kw_only=True, slots=True)
class Line:
    """One line: its name, its class in report.css, and (step, value) points.

    `band` are (step, low, high) around it, `marks` (step, low, value, high) as dots with whiskers.
    """

    name: str
    css: str
    points: list[tuple[float, float]] = field(default_factory=list)
    band: list[tuple[float, float, float]] = field(default_factory=list)
    marks: list[tuple[float, float, float, float]] = field(default_factory=list)


def line_chart(
    title: str,
    lines: list[Line],
    *,
    x_label: str = "step",
    last: str = ", last",
    top: float = 0.0,
    note: str = "",
    log_x: bool = False,
    from_zero: bool = True,
    beside: bool = False,
) -> Markup:
    """The lines over the same steps; the last values as text beside their names.

    Args:
        top: the axis goes at least so far up.
        log_x: equal factors of x are as wide; ticks are where the first line has points or marks.
        from_zero: the axis of values begins at zero, or below.
        beside: names stand at the lines' ends, instead of a legend.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Markup("")
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    ys += [end for line in drawn for _, low, high in line.band for end in (low, high)]
    ys += [end for line in drawn for _, low, _, high in line.marks for end in (low, high)]
    values = ticks(min(0.0, *ys) if from_zero else min(ys), max(top, *ys))
    low, high = min(values[0], *ys), max(values[-1], *ys)
    left, right = min(xs), max(xs)
    edge = WIDTH - (NAMES if beside else RIGHT)
    scale: Callable[[float], float] = math.log if log_x else float
    width = (edge - LEFT) / ((scale(right) - scale(left)) or 1)
    height = (HEIGHT - TOP - BOTTOM) / ((high - low) or 1)

    def at_x(x: float) -> float:
        return LEFT + (scale(x) - scale(left)) * width

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) * height

    out = []
    for value in values:
        y = at_y(value)
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{edge}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for line in drawn:
        out += _line(line, at_x, at_y)
    if log_x:
        places = [x for x, *_ in drawn[0].marks or drawn[0].points]
    else:
        places = [x for x in ticks(left, right, most=5) if left <= x <= right]
    for x in places:
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
                   f"{number(round(x) if x == round(x) else x)}</text>")  # fmt: skip
    out.append(f'<text x="{edge}" y="{HEIGHT - 6}" text-anchor="end">'
               f"{escape(x_label)}</text>")  # fmt: skip
    if beside:
        out += _names(drawn, edge, at_y)
    legend = [(f"{line.name}{last}", line.css, float(line.points[-1][1])) for line in drawn]
    return figure(
        title,
        f"0 0 {WIDTH} {HEIGHT}",
        out,
        legend=[] if beside else legend,
        head=[x_label, "line", "value"],
        rows=[[number(int(x)), line.name, float(y)] for line in drawn for x, y in _thin(line)],
        note=note,
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart), the outer ones at or beyond the ends;
    at most `most` of them."""
    span = (high - low) or abs(high) or 1.0
    high = low + span
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power, 50 * power):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            break
    digits = max(0, -math.floor(math.log10(step)))
    return [round(place * step, digits) for place in range(first, last + 1)]


def _line(line: Line, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> list[str]:
    out = []
    if line.band:
        upper = [f"{at_x(x):.1f},{at_y(high):.1f}" for x, _, high in line.band]
        lower = [f"{at_x(x):.1f},{at_y(low):.1f}" for x, low, _ in reversed(line.band)]
        out.append(f'<polygon class="band {line.css}" points="{" ".join(upper + lower)}"/>')
    places = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in _thin(line))
    out.append(f'<polyline class="line {line.css}" points="{places}"/>')
    for x, low, value, high in line.marks:
        out.append(
            f'<g class="interval {line.css}"><title>{escape(line.name)}, {number(x)}: '
            f"{number(value)} ({number(low)} to {number(high)})</title>"
            f'<line x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{at_y(low):.1f}" '
            f'y2="{at_y(high):.1f}"/><circle cx="{at_x(x):.1f}" cy="{at_y(value):.1f}" r="3.5"/>'
            "</g>"
        )
    return out


def _names(lines: list[Line], edge: float, at_y: Callable[[float], float]) -> list[str]:
    """The lines' names at their ends, moved apart where they would touch."""
    out = []
    lowest = -math.inf
    for line in sorted(lines, key=lambda line: at_y(line.points[-1][1])):
        y = max(at_y(line.points[-1][1]) + 4, lowest + APART)
        lowest = y
        short = line.name if len(line.name) <= 15 else line.name[:14] + "…"
        out.append(
            f'<text class="name {line.css}" x="{edge + 8}" y="{y:.1f}"><title>{escape(line.name)}'
            f"</title>{escape(short)}</text>"
        )
    return out


def _thin(line: Line) -> list[tuple[float, float]]:
    """At most about MOST of its points, the last among them."""
    return [*line.points[: -1 : max(1, len(line.points) // MOST)], line.points[-1]]
