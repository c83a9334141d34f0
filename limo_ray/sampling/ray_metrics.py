"""Ray metrics of a job's samplers: every node's metrics agent offers them to Prometheus.

Ray puts `ray_` before each name. `cluster/grafana.json` is a dashboard of them.
"""

import time
from typing import Any

from ray.util.metrics import Counter, Gauge

SILENT_S = 8.0  # samplers report every second: one that is silent for this long has ended

COUNTERS = {
    "limo_ray_attempts_total": ("Attempts made and verified.", ("stage", "verdict")),
    "limo_ray_reused_total": ("Attempts taken from the log.", ("stage",)),
    "limo_ray_tokens_total": ("Tokens of prompts and completions.", ("stage", "kind")),
    "limo_ray_decided_total": ("Problems decided by a stage.", ("stage", "decision")),
    "limo_ray_verified_total": ("Answers checked by the verifier.", ()),
    "limo_ray_verify_seconds_total": ("Seconds that attempts waited for their verdict.", ()),
}
GAUGES = {
    "limo_ray_engines": "Engines that run.",
    "limo_ray_slots": "Requests that the running engines may hold at once.",
    "limo_ray_slots_open": "Requests that they hold.",
    "limo_ray_flush_lag_seconds": "Age of the oldest attempt that is not in the log yet.",
}


class RayMetrics:
    """Ray metrics of one job, kept by its coordinator."""

    def __init__(self) -> None:
        self.gauges_set_at = 0.0
        self.counters = {
            name: Counter(name, description=description, tag_keys=tags)
            for name, (description, tags) in COUNTERS.items()
        }
        self.gauges = {name: Gauge(name, description=about) for name, about in GAUGES.items()}

    def update(
        self,
        before: dict[str, Any] | None,
        after: dict[str, Any],
        workers: dict[str, dict[str, Any]],
    ) -> None:
        """Adds what one sampler's totals have grown by; `workers` has the totals of all."""
        was = counts(before) if before else {}
        for (name, tags), value in counts(after).items():
            grown = value - was.get((name, tags), 0)
            if grown > 0:
                self.counters[name].inc(grown, dict(tags))
        now = time.time()
        if now - self.gauges_set_at >= 1.0:  # they look at all samplers
            self.gauges_set_at = now
            for name, value in levels(workers, now).items():
                self.gauges[name].set(value)


Tags = tuple[tuple[str, str], ...]


def counts(stats: dict[str, Any]) -> dict[tuple[str, Tags], float]:
    """The counters of a sampler's report (see Sampler._stats), by name and tags."""
    found: dict[tuple[str, Tags], float] = {
        ("limo_ray_verified_total", ()): stats.get("checked", 0),
        ("limo_ray_verify_seconds_total", ()): stats.get("check_seconds", 0.0),
    }
    for stage, totals in stats["stages"].items():
        here = ("stage", stage)
        found["limo_ray_reused_total", (here,)] = totals.get("reused", 0)
        for name, tag, values in (
            ("limo_ray_attempts_total", "verdict", totals["verdicts"]),
            ("limo_ray_tokens_total", "kind", totals["tokens"]),
            ("limo_ray_decided_total", "decision", totals["decisions"]),
        ):
            for value, count in values.items():
                found[name, (here, (tag, str(value)))] = count
    return found


def levels(workers: dict[str, dict[str, Any]], now: float) -> dict[str, float]:
    """The gauges over all samplers that still report."""
    alive = [worker for worker in workers.values() if worker["at"] > now - SILENT_S]
    running = [worker for worker in alive if worker["engine"]]
    return {
        "limo_ray_engines": len(running),
        "limo_ray_slots": sum(worker.get("slots", 0) for worker in running),
        "limo_ray_slots_open": sum(worker["open"] for worker in running),
        "limo_ray_flush_lag_seconds": max(
            (worker.get("lag", 0.0) for worker in alive), default=0.0
        ),
    }
