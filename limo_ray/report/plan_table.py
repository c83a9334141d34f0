"""The plan of a curation on a terminal: a table by stage, and a line for each engine and stage."""

from collections.abc import Callable
from typing import Any

import numpy as np
from rich import filesize

from limo_ray.core.text import duration, number

Figures = dict[str, Any]
"""By name: plain values, and arrays (trials,)."""

INTERVAL = 0.9  # share of the trials that an interval holds
COLUMNS = ("problems", "attempts", "tokens", "GPU-hours", "storage", "time", "cost")


def render(name: str, found: Figures, warnings: list[str]) -> str:
    """Medians, and in brackets what INTERVAL of the trials lie between."""
    pool = found["pool"]
    rows = [
        ["", *COLUMNS],
        ["pool", span(found["live"]), "", "", "", span(pool["bytes"], size),
         span(pool["seconds"], duration), span(pool["cost"])],
    ]  # fmt: skip
    spans = {engine["name"]: span(engine["span_s"], duration) for engine in found["engines"]}
    for stage in found["stages"]:
        took = spans.pop(stage["engine"], "(same engine)")
        rows.append(_row(stage["name"], span(stage["problems"]), stage, took))
    rows.append(_row("all", f"{span(found['kept'])} kept", found, span(found["seconds"], duration)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{name}: {found['rows']:,} rows, {span(found['live'])} problems, "
        f"{span(found['sampled'])} of them sampled; medians, and what {INTERVAL:.0%} lie between",
        "",
    ]
    for first, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    lines.append("")
    for engine in found["engines"]:
        lines.append(
            f"engine {engine['name']}: {engine['replicas']} of at most {engine['max_replicas']} "
            f"replica(s) on {engine['nodes']:.3g} node(s) of type {engine['node_type']}, slots "
            f"{engine['busy'].mean():.0%} busy, {span(engine['work_s'], duration)} of work, "
            f"{span(engine['preemptions'])} preemption(s), {1 - engine['within'].mean():.0%} of "
            "its tokens past the last keeper"
        )
    for stage in found["stages"]:
        each = np.median(stage["attempts"] / np.maximum(1e-9, stage["problems"]))
        each = f"{each:.1f} attempts a problem of {stage['budget']}"
        lines.append(f"stage {stage['name']} ({stage['basis']}): {each}")
    slowest = max(found["engines"], key=lambda engine: float(np.median(engine["work_s"])))
    lines.append(
        f"bottleneck: engine {slowest['name']}, with {span(slowest['work_s'], duration)} of work"
    )
    return "\n".join([*lines, *(f"warning: {text}" for text in warnings)])


def _row(name: str, problems: str, figures: Figures, took: str) -> list[str]:
    counts = [span(figures[key]) for key in ("attempts", "tokens", "gpu_hours")]
    return [name, problems, *counts, span(figures["bytes"], size), took, span(figures["cost"])]


def size(value: float) -> str:
    return filesize.decimal(round(value))


def count(value: float) -> str:
    return number(round(value) if value >= 10 else value)


def span(values: Any, show: Callable[[float], str] = count) -> str:
    """`median (low-high)`; the value alone where nothing is uncertain."""
    tail = (1 - INTERVAL) / 2
    low, median, high = (show(float(value)) for value in np.quantile(values, [tail, 0.5, 1 - tail]))
    return median if low == high else f"{median} ({low}-{high})"
