"""The plan on a terminal: a table, and what somebody who reads it should know."""

from collections.abc import Callable
from typing import Any

import numpy as np

from limo_ray.core.text import duration, number
from limo_ray.plan.config import PlanConfig
from limo_ray.plan.forecast import PassForecast

Figures = dict[str, Any]
"""By name, as in the JSON of a plan: plain values, and arrays (trials,)."""

IDLE = 0.7  # share of busy slots below which an engine is worth a warning
LOST = 0.03  # share of time lost to preemptions that is worth one
COLUMNS = ("problems", "attempts", "tokens", "GPU-hours", "storage", "time", "cost")


def render(found: Figures, warnings: list[str], config: PlanConfig, took_s: float) -> str:
    """A table by stage, a line for each engine and stage, and warnings."""

    def count(value: float) -> str:
        return number(round(value) if value >= 10 else value)

    def span(values: Any, show: Callable[[float], str] = count) -> str:
        """`median (low-high)`."""
        tail = (1 - config.interval) / 2
        low, median, high = (show(float(v)) for v in np.quantile(values, [tail, 0.5, 1 - tail]))
        return median if low == high else f"{median} ({low}-{high})"

    def row(name: str, figures: Figures, problems: str, time: str) -> list[str]:
        counts = [span(figures[key]) for key in ("attempts", "tokens", "gpu_hours")]
        return [name, problems, *counts, span(figures["bytes"], size), time, span(figures["cost"])]

    pool = [size(found["pool_bytes"]), duration(found["pool_s"]), number(found["pool_cost"])]
    rows = [["", *COLUMNS], ["pool", span(found["live"]), "", "", "", *pool]]
    spans = {engine["name"]: span(engine["span_s"], duration) for engine in found["engines"]}
    for stage in found["stages"]:
        time = spans.pop(stage["engine"], "(same engine)")
        rows.append(row(stage["name"], stage, span(stage["problems"]), time))
    rows.append(row("all", found, f"{span(found['kept'])} kept", span(found["seconds"], duration)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head = f"{config.name}: {found['rows']:,} rows, {span(found['live'])} problems"
    lines = [f"{head}, {span(found['sampled'])} of them sampled"]
    if found["reached"] is not None:
        wanted = config.difficulty.stop_after_kept
        lines.append(f"{wanted:,} keepers are reached in {found['reached']:.0%} of the trials")
    lines += [
        f"{config.trials} trials in {took_s:.1f} s; median, and in brackets what "
        f"{config.interval:.0%} of them lie between",
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
            f"{engine['busy'].mean():.0%} busy, {span(engine['full_s'], duration)} of work, "
            f"{span(engine['preemptions'])} preemption(s)"
        )
    for stage in found["stages"]:
        each = np.median(stage["attempts"] / np.maximum(1e-9, stage["problems"]))
        each = f"{each:.1f} attempts a problem of {stage['budget']}"
        lines.append(f"stage {stage['name']} ({stage['basis']}): {each}")
    return "\n".join([*lines, bottleneck(found), *(f"warning: {text}" for text in warnings)])


def bottleneck(found: Figures) -> str:
    """Which engine the job waits for, and what would shorten it."""
    work = sorted(
        (float(np.median(engine["full_s"])), engine["name"]) for engine in found["engines"]
    )
    own, name = work[-1]
    whole = float(np.median(found["seconds"]))
    if own < whole / 3:
        outside = duration(whole - float(np.median(found["sampling_s"])))
        return (
            f"bottleneck: none of the engines: {duration(own)} of work for {name} in a job of "
            f"{duration(whole)}, of which {outside} outside sampling; the rest is starting and "
            "waiting for the last attempts"
        )
    saved = min(own / 2, own - work[-2][0]) if len(work) > 1 else own / 2
    return (
        f"bottleneck: engine {name}; with twice as many replicas, or twice as fast, the job would "
        f"take about {duration(saved)} less"
    )


def size(count: float) -> str:
    """Bytes with a decimal unit."""
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_:
            return f"{count / bytes_:.3g} {unit}"
    return f"{count:.0f} B"


def warnings(
    config: PlanConfig, problems: np.ndarray, passes: list[PassForecast], reached: float | None,
    wanted: int,
) -> list[str]:  # fmt: skip
    """One line each, the gravest first."""
    found = []
    overlap = config.difficulty.overlap or len(passes) == 1
    if reached is not None and reached < 0.95:
        share = float(np.median(np.prod([pass_.share for pass_ in passes], axis=0)))
        live = float(np.median(problems))
        found.append(
            f"the target of {wanted:,} is reached in {reached:.0%} of the trials only: of "
            f"{live:,.0f} problems {share:.2%} are kept, some {live * share:,.0f}; more rows, a "
            "wider rule or a smaller difficulty.stop_after_kept are needed"
        )
    if wanted and not overlap:
        found.append(
            f"difficulty.overlap is off: engine {passes[0].allocation.name} works through the "
            "whole pool before the next one starts, whatever the target"
        )
    for index, pass_ in enumerate(passes):
        own, name = pass_.allocation, f"engine {pass_.allocation.name}"
        within = pass_.within.sum() / max(1, pass_.done.sum())
        if wanted and within < 0.7 and (overlap or pass_ is passes[-1]):
            found.append(
                f"{name}: {1 - within:.0%} of its tokens go to problems past the last keeper: it "
                "is far ahead of the next engine or holds many problems at once; fewer replicas or "
                "a smaller max_num_seqs would waste fewer (the log keeps them)"
            )
        busy, each = float(pass_.busy.mean()), float(np.median(pass_.done)) / pass_.replicas
        if busy < IDLE:
            why = "waits for its first and last problems"
            if index:
                why = f"waits for what engine {passes[index - 1].allocation.name} lets through"
            elif each * pass_.replicas <= pass_.held:
                why = f"has {each:,.0f} problems a replica: the tail dominates"
            fewer = "; fewer replicas would do" if pass_.replicas > own.engine.min_replicas else ""
            found.append(f"{name} idles {1 - busy:.0%} of its time: it {why}{fewer}")
        lost = float(1 - pass_.useful.mean())
        if lost > LOST:
            found.append(
                f"{name}: preemptions of type {own.node_type} cost {lost:.0%} of its time, while "
                "it starts again"
            )
        attempts = sum(stage.attempts for stage in pass_.each)
        ends = float(np.median(pass_.full_rate * attempts / pass_.tokens))
        checked = config.assume.checks_per_s * config.sampler.verify_workers
        if ends > checked:
            found.append(
                f"{name} ends {ends:,.0f} attempts a second and replica, its verifying processes "
                f"check {checked:,.0f}: raise sampler.verify_workers"
            )
    used = {pass_.allocation.node_type for pass_ in passes}
    for name, node in config.cluster.nodes.items():
        if node.gpus and node.count and name not in used:
            found.append(
                f"cluster.nodes.{name}: {node.count} node(s) with GPUs that no engine uses"
            )
    return found
