"""Results as tables: for the terminal, and as Markdown to paste. Pure."""

from typing import Any

from limo_ray.problems.benchmarks import PAPER_MODELS
from limo_ray.report.templates import markdown as escaped

CUT = ("truncated", "unparsed", "looped", "timeout", "error")


def percent(share: float, digits: int = 1) -> str:
    return f"{share * 100:.{digits}f}"


def interval(score: dict[str, Any]) -> str:
    """A score with its interval, in per cent."""
    return f"{percent(score['value'])} [{percent(score['low'])}, {percent(score['high'])}]"


def text(results: dict[str, Any]) -> str:
    """What a terminal shows at the end: one line per score, one per comparison."""
    lines = []
    width = max(len(run["label"]) for run in results["runs"])
    for benchmark in results["benchmarks"]:
        name = benchmark["name"]
        lines.append(
            f"{name}: {benchmark['items']} items, {benchmark['attempts']} attempt(s) each, "
            f"temperature {benchmark['sampling']['temperature']:g}, "
            f"{benchmark['sampling']['max_tokens']:,} tokens"
        )
        for run in results["runs"]:
            score = run["scores"][name]
            rest = ", ".join(f"{what} {percent(score['shares'][what], 0)} %"
                             for what in CUT if score["shares"][what])  # fmt: skip
            lines.append(
                f"  {run['label']:<{width}}  {interval(score['pass@1'])} %  "
                f"{score['tokens']['mean']:,.0f} tokens an answer{'; ' + rest if rest else ''}"
            )
        for pair in results["comparisons"]:
            if pair["benchmark"] == name:
                lines.append(f"  {pair['a']} - {pair['b']}: {difference(pair)}")
    return "\n".join(lines)


def difference(pair: dict[str, Any]) -> str:
    """A paired difference in points, with interval, p and what to make of it."""
    verdict = "inside the noise" if pair["inside_noise"] else "outside the noise"
    return (
        f"{pair['difference'] * 100:+.1f} points [{pair['low'] * 100:+.1f}, "
        f"{pair['high'] * 100:+.1f}], p = {pair['p_adjusted']:.2g}: {verdict} "
        f"({pair['gained']} items better, {pair['lost']} worse)"
    )


def markdown(results: dict[str, Any]) -> str:
    """The tables of results.md."""
    runs, benchmarks = results["runs"], results["benchmarks"]
    published = any(benchmark["paper"] for benchmark in benchmarks)
    head = ["benchmark", "items x attempts", *(escaped(run["label"]) for run in runs)]
    head += [f"{name} (paper)" for name in PAPER_MODELS] if published else []
    lines = [_row(head), _row(["---"] * len(head))]
    for benchmark in benchmarks:
        cells = [benchmark["name"], f"{benchmark['items']} x {benchmark['attempts']}"]
        cells += [interval(run["scores"][benchmark["name"]]["pass@1"]) for run in runs]
        if published:
            cells += [
                f"{benchmark['paper'][name]:.1f}" if benchmark["paper"] else ""
                for name in PAPER_MODELS
            ]
        lines.append(_row(cells))
    if all(run["mean"] for run in runs):
        means = [interval(run["mean"]) for run in runs]
        lines.append(_row(["mean", "", *means, *([""] * (len(head) - 2 - len(means)))]))
    lines += ["", "pass@1 in per cent, mean over attempts, with 95 % intervals over items and "
              "attempts."]  # fmt: skip
    lines += ["", *_shares(results)]
    if results["comparisons"]:
        lines += ["", _row(["benchmark", "models", "difference"]), _row(["---"] * 3)]
        for pair in results["comparisons"]:
            names = f"{escaped(pair['a'])} - {escaped(pair['b'])}"
            lines.append(_row([pair["benchmark"], names, difference(pair)]))
        lines += ["", "Paired by item; exact sign-flip test, Holm's correction over the table."]
    if results["notes"]:
        lines += ["", *(f"- {escaped(note)}" for note in results["notes"])]
    lines += ["", *_made_by(results)]
    return "\n".join(lines) + "\n"


def _shares(results: dict[str, Any]) -> list[str]:
    head = ["benchmark", "model", *CUT, "of those with an answer right", "tokens an answer"]
    lines = [_row(head), _row(["---"] * len(head))]
    for benchmark in results["benchmarks"]:
        for run in results["runs"]:
            score = run["scores"][benchmark["name"]]
            right = score["right_of_judged"]
            lines.append(_row([
                benchmark["name"], escaped(run["label"]),
                *(f"{percent(score['shares'][what])} %" for what in CUT),
                "" if right is None else f"{percent(right)} %", f"{score['tokens']['mean']:,.0f}",
            ]))  # fmt: skip
    return lines


def _made_by(results: dict[str, Any]) -> list[str]:
    lines = []
    for run in results["runs"]:
        where = run.get("endpoint") or "own engine, " + run["engine"]["dtype"]
        name = f"{escaped(run['label'])}: {_code(run['model'])}"
        lines.append(f"- {name}, {escaped(run['identity'])}, {escaped(where)}")
    for benchmark in results["benchmarks"]:
        sampling = benchmark["sampling"]
        lines.append(
            f"- {benchmark['name']}: {escaped(benchmark['origin'])}, "
            f"checksum {benchmark['checksum']}; temperature {sampling['temperature']:g}, "
            f"top_p {sampling['top_p']:g}, {sampling['max_tokens']} tokens"
        )
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines += [f"- system prompt: {escaped(results['runs'][0]['system'])}", f"- {versions}"]
    return [*lines, f"- {_code(results['command'])}"]


def _code(text: str) -> str:
    """A code span that its text cannot end."""
    return "`" + text.replace("`", "'") + "`"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
