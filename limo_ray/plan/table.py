"""The plan on a terminal."""

from collections.abc import Callable

from limo_ray.plan.config import PlanConfig
from limo_ray.plan.findings import EngineFindings, Figure, Findings, StageFindings

COLUMNS = ("", "problems", "attempts", "tokens", "GPU-hours", "storage", "time", "cost")


def render(found: Findings, config: PlanConfig, method: str, took_s: float) -> str:
    """A table by stage, what engines and stages are like, and warnings."""
    rows = [
        COLUMNS,
        (
            "pool", span(found.live, number), "", "", "", size(found.pool_bytes),
            span(found.pool_s, duration), money(found.pool_cost),
        ),
        *[_stage(stage, found) for stage in found.stages],
        (
            "all", f"{span(found.kept, number)} kept", span(found.attempts, number),
            span(found.tokens, number), hours(found.gpu_hours), span(found.bytes, size),
            span(found.seconds, duration), money(found.cost),
        ),
    ]  # fmt: skip
    target = ""
    if found.reached is not None:
        wanted = config.difficulty.stop_after_kept
        target = f"; {wanted:,} keepers are reached in {found.reached:.0%} of the futures"
    head = (
        f"{config.name}: {found.rows:,} rows, {span(found.live, number)} problems, "
        f"{span(found.sampled, number)} of them sampled{target}"
    )
    told = (
        f"{config.trials} futures, by {method}, in {took_s:.1f} s; median, and in brackets what "
        f"{config.interval:.0%} of them lie between"
    )
    lines = [head, told, "", *aligned(rows), ""]
    lines += [_engine(engine) for engine in found.engines]
    lines += [_like(stage) for stage in found.stages]
    lines += [bottleneck(found), *[f"warning: {text}" for text in found.warnings]]
    return "\n".join(lines)


def _stage(stage: StageFindings, found: Findings) -> tuple[str, ...]:
    first = next(each for each in found.stages if each.engine == stage.engine) is stage
    engine = next(each for each in found.engines if each.name == stage.engine)
    return (
        stage.name, span(stage.problems, number), span(stage.attempts, number),
        span(stage.tokens, number), hours(stage.gpu_hours), span(stage.bytes, size),
        span(engine.span_s, duration) if first else "(same engine)", money(stage.cost),
    )  # fmt: skip


def _engine(engine: EngineFindings) -> str:
    more = f" of at most {engine.wanted}" if engine.replicas < engine.wanted else ""
    text = (
        f"engine {engine.name}: {engine.replicas} replica(s){more} on {engine.nodes:.3g} node(s) "
        f"of kind {engine.kind}, slots {engine.busy:.0%} busy; "
        f"{span(engine.full_s, duration)} of work"
    )
    if engine.preemptions.high:
        text += (
            f"; {span(engine.preemptions, number)} preemption(s) lose {engine.lost_tokens:.1%} of "
            "its tokens"
        )
    return text


def _like(stage: StageFindings) -> str:
    verdicts = ", ".join(f"{name} {share:.0%}" for name, share in stage.verdicts.items() if share)
    speculative = f", {stage.speculative:.1%} speculative" if stage.speculative else ""
    return (
        f"stage {stage.name} ({stage.basis}): {stage.per_problem:.1f} attempts a problem of "
        f"{stage.budget}{speculative}; {verdicts}"
    )


def bottleneck(found: Findings) -> str:
    """Which engine the job waits for, and what would shorten it."""
    works = sorted(found.engines, key=lambda engine: -engine.full_s.median)
    slowest = works[0]
    own, whole = slowest.full_s.median, found.seconds.median
    if own < whole / 3:
        rest = whole - found.sampling_s.median
        return (
            f"bottleneck: none of the engines: {duration(own)} of work for {slowest.name} in a job "
            f"of {duration(whole)}, of which {duration(rest)} pass outside sampling; the rest is "
            "starting and waiting for the last attempts"
        )
    second = works[1].full_s.median if len(works) > 1 else 0.0
    saved = min(own / 2, own - second)
    return (
        f"bottleneck: engine {slowest.name}; with twice as many replicas, or twice as fast, the "
        f"job would take about {duration(saved)} less"
    )


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of one width, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def span(figure: Figure, show: Callable[[float], str]) -> str:
    """`median (low-high)`, the unit of both bounds once where it is the same."""
    middle, low, high = (show(value) for value in (figure.median, figure.low, figure.high))
    if low == high:
        return middle
    unit = high.lstrip("0123456789.,")
    if unit and low.endswith(unit) and low.removesuffix(unit)[-1:].isdigit():
        low = low.removesuffix(unit)
    return f"{middle} ({low}-{high})"


def number(value: float) -> str:
    for unit, size_ in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if value >= size_:
            return f"{value / (1e3 if unit == 'k' else size_):.3g}{unit}"
    return f"{value:,.0f}"


def size(value: float) -> str:
    for unit, size_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size_:
            return f"{value / size_:.3g} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 10_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def hours(figure: Figure) -> str:
    return span(figure, lambda value: f"{value:,.0f}") if figure.high else "-"


def money(figure: Figure) -> str:
    return span(figure, lambda value: f"{value:,.0f}") if figure.high else "-"
