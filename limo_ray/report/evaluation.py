"""The report of an evaluation: one self-contained HTML file that opens offline.

    render_evaluation(results, shown)   ->   the page as text

`results` is what results.json holds, `shown` the attempts with their items. Everything that came
from outside is escaped; the page's own Content-Security-Policy forbids the network.
"""

from typing import Any

from markupsafe import Markup

from limo_ray.core.text import number
from limo_ray.report import charts, facts
from limo_ray.report.attempt_browser import Shown, attempts_browser
from limo_ray.report.forest import ForestGroup, ForestRow, forest, scale_of
from limo_ray.report.line_chart import Line, line_chart
from limo_ray.report.templates import environment, page

SHORT = {"Qwen2.5-32B-Instruct": "base model", "NuminaMath-100k SFT": "NuminaMath"}
PUBLISHED = (
    " Diamonds are what the paper reports, without an interval: LIMO, its base model "
    "Qwen2.5-32B-Instruct, and that trained on 100k examples of NuminaMath."
)
LABEL = 36  # characters that have room beside a bar's note
COLOURS = ("c0", "c1", "c2", "c3")


def render_evaluation(results: dict[str, Any], shown: list[Shown]) -> str:
    """The page as text that encodes as UTF-8."""
    env = environment(autoescape=True)
    return page(
        "evaluation.html.j2", results["versions"]["limo_ray"], r=results,
        headline=headline(results),
        scores=_scores(results), differences=_differences(results), verdicts=_verdicts(results),
        budgets=_budgets(results), breakdowns=_breakdowns(results),
        config=facts.flat(results.get("config") or {}),
        browser=attempts_browser(shown, env), attempts=len(shown),
        several=any(run["scores"][one["name"]]["pass@k"]
                    for run in results["runs"] for one in results["benchmarks"]),
        points=points, band=band,
    )  # fmt: skip


def points(share: float | None, signed: bool = False) -> str:
    """A share as per cent with one digit; a dash for None."""
    if share is None:
        return "–"  # noqa: RUF001
    return f"{share * 100:+.1f}" if signed else f"{share * 100:.1f}"


def band(score: dict[str, Any] | None, signed: bool = False) -> str:
    """A score or difference with its interval; a dash for None."""
    if not score:
        return "–"  # noqa: RUF001
    value = score.get("value", score.get("difference"))
    ends = f"{points(score['low'], signed)} to {points(score['high'], signed)}"
    return f"{points(value, signed)} ({ends})"


def headline(results: dict[str, Any]) -> list[str]:
    """The result in a few sentences; the first stands alone."""
    runs, benchmarks = results["runs"], results["benchmarks"]
    first, name = runs[0], benchmarks[0]["name"]
    several = f"{len(benchmarks)} benchmarks"
    where = name if len(benchmarks) == 1 else several
    score = first["mean"] or first["scores"][name]["pass@1"]
    told = f"{first['label']} solves {points(score['value'])} % of {where}."
    if len(benchmarks) > 1:
        told = f"{first['label']} solves {points(score['value'])} % on the mean of {several}."
    ends = f"{points(score['low'])} to {points(score['high'])} %"
    sentences = [told, f"The 95 % interval is {ends}."]
    compared = results["comparisons"]
    if compared and len(compared) == 1:
        one = compared[0]
        way = "above" if one["difference"] >= 0 else "below"
        sentences = [
            f"{one['a']} is {points(abs(one['difference']))} points {way} {one['b']} on "
            f"{one['benchmark']}."
        ]
        if one["inside_noise"]:
            sentences.append(
                f"That is inside the noise: the 95 % interval is {points(one['low'], True)} to "
                f"{points(one['high'], True)}, p = {one['p_adjusted']:.2g}."
            )
        else:
            sentences.append(
                f"The 95 % interval is {points(one['low'], True)} to {points(one['high'], True)}, "
                f"p = {one['p_adjusted']:.2g}."
            )
        sentences.append(
            "Scores: " + ", ".join(
                f"{run['label']} {band(run['scores'][name]['pass@1'])} %" for run in runs
            ) + "."
        )  # fmt: skip
    elif compared:
        clear = [one for one in compared if not one["inside_noise"]]
        sentences.append(
            f"{len(clear)} of {len(compared)} differences to other models are outside the noise."
        )
    return sentences


def _scores(results: dict[str, Any]) -> Markup:
    groups = []
    for one in results["benchmarks"]:
        rows = [
            _row(run["label"], place, run["scores"][one["name"]]["pass@1"])
            for place, run in enumerate(results["runs"])
        ]
        name = f"{one['name']}, {one['items']} items, {one['attempts']} attempt"
        name += "s" if one["attempts"] > 1 else ""
        marks = [(SHORT.get(model, model), value) for model, value in one["paper"].items()]
        groups.append(ForestGroup(name=name, rows=rows, marks=marks))
    if all(run["mean"] for run in results["runs"]):
        rows = [_row(run["label"], i, run["mean"]) for i, run in enumerate(results["runs"])]
        groups.append(ForestGroup(name="Mean over benchmarks", rows=rows))
    return forest(
        "pass@1, per cent, with 95 % intervals", groups,
        note="The interval is about other items of this kind and other attempts at them."
        + (PUBLISHED if any(one["paper"] for one in results["benchmarks"]) else ""),
    )  # fmt: skip


def _row(label: str, place: int, score: dict[str, Any]) -> ForestRow:
    return ForestRow(label=label, css=COLOURS[place % len(COLOURS)], low=100 * score["low"],
               value=100 * score["value"], high=100 * score["high"])  # fmt: skip


def _differences(results: dict[str, Any]) -> Markup:
    groups: dict[str, ForestGroup] = {}
    for one in results["comparisons"]:
        told = {"low": one["low"], "value": one["difference"], "high": one["high"]}
        group = groups.setdefault(one["benchmark"], ForestGroup(name=one["benchmark"], rows=[]))
        css = 3 if one["inside_noise"] else 0
        group.rows.append(_row(f"against {one['b']}", css, told))
    return forest(
        f"{results['runs'][0]['label']} on the same items, points", list(groups.values()),
        signed=True,
        note="Paired by item, so that how hard an item is drops out. Grey is inside the noise.",
    )  # fmt: skip


def _verdicts(results: dict[str, Any]) -> Markup:
    rows = []
    for one in results["benchmarks"]:
        for run in results["runs"]:
            told = run["scores"][one["name"]]["verdicts"]
            total = sum(told.values())
            judged = sum(told[v] for v in facts.JUDGED)
            label = one["name"] if len(results["runs"]) == 1 else f"{one['name']}, {run['label']}"
            label = label if len(label) <= LABEL else label[: LABEL - 1] + "…"
            parts = [(v, f"v-{v}", told[v]) for v in facts.JUDGED + facts.UNJUDGED]
            note = f"{judged / total:.0%} of {number(total)} judged"
            rows.append(charts.Bar(label=label, parts=parts, total=total, note=note))
    return charts.bars(
        "What became of every attempt", rows,
        note="Only correct and wrong are judgements. The grey parts count as not solved in the "
        "score, and say why there is no answer to judge.",
    )  # fmt: skip


def _budgets(results: dict[str, Any]) -> list[Markup]:
    found = []
    for one in results["benchmarks"]:
        lines = [
            Line(
                name=run["label"], css=COLOURS[place % len(COLOURS)],
                points=[(b, 100 * share) for b, share in run["scores"][one["name"]]["by_budget"]],
            )
            for place, run in enumerate(results["runs"])
        ]  # fmt: skip
        chart = line_chart(
            one["name"], lines, x_label="tokens",
            top=scale_of(0, max(v for line in lines for _, v in line.points), False)[1],
            last=", % at the limit",
            note="An attempt counts at a budget when it ended within it with the right answer.",
        )  # fmt: skip
        found.append(chart)
    return found


def _breakdowns(results: dict[str, Any]) -> list[Markup]:
    found = []
    for one in results["benchmarks"]:
        for name in one["by"]:
            values: dict[str, ForestGroup] = {}
            for place, run in enumerate(results["runs"]):
                told = run["scores"][one["name"]]["by"].get(name, {})
                for value, score in told.items():
                    title = f"{value or 'none'}, {score['items']} items"
                    if len(results["runs"]) == 1:
                        group = values.setdefault("", ForestGroup(name="", rows=[]))
                        group.rows.append(_row(title, place, score))
                        continue
                    group = values.setdefault(value, ForestGroup(name=title, rows=[]))
                    group.rows.append(_row(run["label"], place, score))
            found.append(forest(f"pass@1 by {name}: {one['name']}", list(values.values())))
    return [chart for chart in found if chart]
