"""What a study's figures show, and what they cannot, in sentences. Pure."""

from typing import Any

Row = dict[str, Any]


def points(share: float, signed: bool = True) -> str:
    """A share as points with one digit."""
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"


def of_comparison(found: Row, comparisons: int) -> str:
    """The answer to a named question."""
    asked = f"{found['name']} on {found['benchmark']}"
    if found["missing"]:
        return f"{asked}: not answered, for cells of it failed."
    over = f", the mean of {found['pairs']} pairs of arms" if found["pairs"] > 1 else ""
    holm = f" after Holm over {comparisons} comparisons" if comparisons > 1 else ""
    value = points(abs(found["value"]), False) if found["clear"] else points(found["value"])
    figures = (
        f"{value} points{over} (95 % interval {points(found['low'])} to "
        f"{points(found['high'])}, p = {found['p_adjusted']:.2g}{holm})"
    )
    if found["clear"]:
        text = f"{asked}: {'higher' if found['value'] > 0 else 'lower'} by {figures}."
    else:
        text = (
            f"{asked}: no difference is shown: {figures}. That is not proof of none: a true "
            f"difference below about {points(found['detectable'], False)} points would often be "
            "missed."
        )
    if found["fewest_seeds"] == 1:
        text += (
            " An arm has one training seed: how far another seed would move this is not known, "
            "and not in the interval."
        )
    return text


def of_curve(line: Row, benchmark: str) -> str:
    """What more examples brought."""
    (first, least, *_), (last, most, *_) = line["points"][0], line["points"][-1]
    gain = line["gain"]
    text = (
        f"{line['line']} on {benchmark}: {points(least, False)} % with {first:,} examples, "
        f"{points(most, False)} % with {last:,}, a change of {points(gain['value'])} points (95 % "
        f"interval {points(gain['low'])} to {points(gain['high'])}, not one of the named "
        "comparisons)."
    )
    curve = line["curve"]
    if curve is None:
        return text + " No curve is fitted: that needs four sizes or more."
    if gain["low"] <= 0 <= gain["high"]:
        return text + " Whether more examples help is not shown."
    return text + (
        f" The fitted curve levels off at {points(curve['top'], False)} %; beyond {last:,} "
        "examples it is a guess."
    )


def markdown(results: Row) -> str:
    """results.md."""
    lines = [f"# Study {results['name']}", ""]
    lines += [f"- {text}" for text in results["sentences"]]
    lines += ["", f"Budget: {BUDGETS[results['budget']]}."]
    for name in results["benchmarks"]:
        lines += ["", f"## {name}", "", "| arm | seeds | score, % | 95 % interval | seeds | items "
                  "| attempts |", "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        for arm, one in zip(results["arms"], results["scores"][name], strict=True):
            parts = [points(one[part], False) if one[part] is not None else "not known"
                     for part in ("seeds", "items", "attempts")]  # fmt: skip
            lines.append(
                f"| {arm['label']} | {len(arm['seeds'])} | {points(one['value'], False)} | "
                f"{points(one['low'], False)} to {points(one['high'], False)} | "
                f"{' | '.join(parts)} |"
            )
    lines += ["", "The last three columns are standard errors, in points, that training seeds, the "
              "choice of items and the sampling of attempts cause each alone."]  # fmt: skip
    lines += ["", *(f"- {note}" for note in results["notes"])]
    lines += [f"- failed: {failure}" for failure in results["failures"]]
    return "\n".join(lines) + "\n"


BUDGETS = {
    "tokens": "every training has the same optimizer steps and the same learned tokens",
    "steps": "every training has the same optimizer steps of as many examples; long examples "
    "have more tokens",
    "epochs": "every training sees its examples as often; larger sets train longer",
}
