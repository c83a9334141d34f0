"""The report of a study: one self-contained HTML file that opens offline.

    render_study(results)   ->   the page as text

`results` is what the study's results.json holds.
"""

from typing import Any

from markupsafe import Markup, escape

from limo_ray.core.text import duration, number
from limo_ray.report import facts
from limo_ray.report.charts import RIGHT, WIDTH, figure
from limo_ray.report.evaluation import band, points
from limo_ray.report.forest import ForestGroup, ForestRow, forest
from limo_ray.report.latex_html import render
from limo_ray.report.line_chart import Line, line_chart
from limo_ray.report.templates import FOLDER, clean, environment

COLOURS = ("c0", "c1", "c2", "c4", "c5", "c3")
UNTRAINED = "c3"
CHARS = 1500  # of a question or solution shown
ROW = 30  # height of a row of the heat map
Row = dict[str, Any]


def render_study(results: Row) -> str:
    """The page as text that encodes as UTF-8."""
    page = environment(autoescape=True).get_template("study.html.j2").render(
        r=results, style=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        curves=[chart for name in results["benchmarks"] if (chart := _curves(results, name))],
        scores=[_scores(results, name) for name in results["benchmarks"]],
        differences=_differences(results),
        heat=[_heat(results["heat"][name], name) for name in results["benchmarks"]
              if results["heat"][name]],
        examples=_examples(results), cells=_cells(results), points=points, band=band,
        budget=_budget(results), duration=duration, number=number,
        config=facts.flat(results.get("config") or {}),
    )  # fmt: skip
    return clean(page)


def _curves(results: Row, name: str) -> Markup:
    """Score against examples, one colour for each setting of everything else."""
    lines = [_line(one, one["line"], place) for place, one in enumerate(results["curves"][name])]
    for other in results["against"]:
        lines += [_line(one, f"{other['name']}: {one['line']}", len(lines) + place)
                  for place, one in enumerate(other["curves"].get(name, []))]  # fmt: skip
    if not lines:
        return Markup("")
    ends = [x for line in lines for x, _ in line.points]
    for arm, one in zip(results["arms"], results["scores"][name], strict=True):
        if not arm["trained"]:
            level = 100 * one["value"]
            lines.append(Line(name=arm["label"], css=UNTRAINED,
                              points=[(min(ends), level), (max(ends), level)]))  # fmt: skip
    return line_chart(
        f"{name}: score by examples, per cent", lines, x_label="examples", log_x=True,
        from_zero=False, beside=True,
        note="Whiskers are 95 % intervals over training seeds and items. A band belongs to a "
        "fitted power law with a floor, where there are four sizes or more.",
    )  # fmt: skip


def _line(one: Row, label: str, place: int) -> Line:
    curve = one["curve"]
    marks = [(n, 100 * low, 100 * value, 100 * high) for n, value, low, high in one["points"]]
    if curve is None:
        drawn, around = [(n, value) for n, _, value, _ in marks], []
    else:
        drawn = [(n, 100 * v) for n, v in zip(curve["sizes"], curve["values"], strict=True)]
        ends = zip(curve["sizes"], curve["low"], curve["high"], strict=True)
        around = [(n, 100 * low, 100 * high) for n, low, high in ends]
    return Line(name=label, css=COLOURS[place % len(COLOURS)], points=drawn, band=around,
                marks=marks)  # fmt: skip


def _scores(results: Row, name: str) -> Markup:
    kinds = list(dict.fromkeys(arm["line"] for arm in results["arms"] if arm["trained"]))
    rows = []
    for arm, one in zip(results["arms"], results["scores"][name], strict=True):
        place = kinds.index(arm["line"]) if arm["trained"] else 0
        css = COLOURS[place % len(COLOURS)] if arm["trained"] else UNTRAINED
        rows.append(_interval(arm["label"], css, one))
    return forest(f"{name}: every arm, per cent, with 95 % intervals",
                  [ForestGroup(name="", rows=rows)])  # fmt: skip


def _interval(label: str, css: str, one: Row) -> ForestRow:
    return ForestRow(label=label, css=css, low=100 * one["low"], value=100 * one["value"],
                     high=100 * one["high"])  # fmt: skip


def _differences(results: Row) -> Markup:
    groups: dict[str, ForestGroup] = {}
    for one in results["comparisons"]:
        if not one["missing"]:
            group = groups.setdefault(one["benchmark"], ForestGroup(name=one["benchmark"], rows=[]))
            group.rows.append(_interval(one["name"], "c0" if one["clear"] else "c3", one))
    return forest(
        "The named comparisons, points", list(groups.values()), signed=True,
        note="Paired by item; intervals hold training seeds and items. Grey is no difference "
        "shown, after Holm's correction.",
    )  # fmt: skip


def _heat(found: Row, name: str) -> Markup:
    """Mean scores over two axes; the darker the higher."""
    known = [value for row in found["cells"] for value in row if value is not None]
    low, high = min(known), max(known)
    left = 110
    step = (WIDTH - left - RIGHT) / len(found["columns"])
    out = []
    for place, label in enumerate(found["columns"]):
        out.append(_text(left + (place + 0.5) * step, 14, label, step / 6))
    for down, (label, row) in enumerate(zip(found["rows"], found["cells"], strict=True)):
        y = 22 + down * ROW
        out.append(f'<text x="2" y="{y + 19}">{escape(_short(label, 17))}</text>')
        for across, value in enumerate(row):
            if value is None:
                continue
            dark = 0.12 + 0.6 * (value - low) / ((high - low) or 1)
            x = left + across * step
            out.append(
                f'<rect class="heat" style="opacity:{dark:.2f}" x="{x + 1:.1f}" y="{y}" '
                f'width="{step - 2:.1f}" height="{ROW - 2}"/>'
                + _text(x + step / 2, y + 19, points(value), 9, "heat-value")
            )
    table = [[label, *(None if v is None else 100 * v for v in row)]
             for label, row in zip(found["rows"], found["cells"], strict=True)]  # fmt: skip
    return figure(
        f"{name}: {found['down']} by {found['across']}, per cent",
        f"0 0 {WIDTH} {26 + ROW * len(found['rows'])}", out, legend=[],
        head=["", *found["columns"]], rows=table,
        note="Means over everything else that differs between the arms.",
    )  # fmt: skip


def _text(x: float, y: float, text: str, room: float, css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    short = escape(_short(text, max(3, int(room))))
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle"{kind}>{short}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _examples(results: Row) -> list[Row]:
    return [
        {"label": arm["label"], "tokens": arm["tokens"],
         "rows": [one | {"question": render(one["question"][:CHARS]),
                         "solution": render(one["solution"][:CHARS])}
                  for one in arm["examples"]]}
        for arm in results["arms"] if arm["examples"]
    ]  # fmt: skip


def _cells(results: Row) -> list[Row]:
    """Cells with what each cost, and per point gained on the untrained model."""
    found = []
    for cell in results["cells"]:
        costs = {}
        for name, gained in cell["gained"].items():
            if gained is not None and gained > 0 and cell["trained"]:
                costs[name] = duration(cell["train_s"] / gained)
        found.append(cell | {"costs": costs})
    return found


def _budget(results: Row) -> str:
    """The learned tokens that trainings had, as a range."""
    learned = [cell["learned_tokens"] for cell in results["cells"] if cell["learned_tokens"]]
    if not learned:
        return ""
    apart = max(learned) / min(learned) - 1
    return (f"{number(min(learned))} to {number(max(learned))} learned tokens a training, "
            f"{apart:.1%} apart")  # fmt: skip
