"""Line charts over steps, in the look of the curation report's charts (report.charts)."""

from dataclasses import dataclass, field

from markupsafe import Markup, escape

from limo_ray.core.text import number
from limo_ray.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, figure

TICKS = 4
MOST = 400  # points drawn of one line


@dataclass(kw_only=True, slots=True)
class Line:
    """One line: its name, its class in report.css, and (step, value) points."""

    name: str
    css: str
    points: list[tuple[float, float]] = field(default_factory=list)


def line_chart(
    title: str,
    lines: list[Line],
    *,
    x_label: str = "step",
    last: str = ", last",
    top: float = 0.0,
    note: str = "",
) -> Markup:
    """The lines over the same steps; the last values as text beside their names.

    `top` is the axis's end, if the values do not go beyond it.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Markup("")
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    low, high = min(0.0, *ys), max(top, *ys)
    left, right = min(xs), max(xs)
    width = (WIDTH - LEFT - RIGHT) / ((right - left) or 1)
    height = (HEIGHT - TOP - BOTTOM) / ((high - low) or 1)
    out = []
    for tick in range(TICKS + 1):
        value = low + (high - low) * tick / TICKS
        y = HEIGHT - BOTTOM - (value - low) * height
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for line in drawn:
        places = " ".join(
            f"{LEFT + (x - left) * width:.1f},{HEIGHT - BOTTOM - (y - low) * height:.1f}"
            for x, y in _thin(line)
        )
        out.append(f'<polyline class="line {line.css}" points="{places}"/>')
    for at, anchor in ((left, "start"), (right, "end")):
        x = LEFT + (at - left) * width
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">'
                   f"{number(int(at))}</text>")  # fmt: skip
    out.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">'
               f"{escape(x_label)}</text>")  # fmt: skip
    return figure(
        title,
        f"0 0 {WIDTH} {HEIGHT}",
        out,
        legend=[(f"{line.name}{last}", line.css, float(line.points[-1][1])) for line in drawn],
        head=[x_label, "line", "value"],
        rows=[[number(int(x)), line.name, float(y)] for line in drawn for x, y in _thin(line)],
        note=note,
    )


def _thin(line: Line) -> list[tuple[float, float]]:
    """At most about MOST of its points, the last among them."""
    return [*line.points[: -1 : max(1, len(line.points) // MOST)], line.points[-1]]
