"""The plan: many futures of a curation on a cluster, and what they have in common.

    python jobs/plan.py conf/curate/limo.yaml pool_rows=10_000_000

Each trial draws a truth (pass rates, lengths, speeds, share of the rows that become problems) from
what is assumed or what a pilot measured, and lets the job happen in it: event by event where that
is quick (`limo_ray.plan.events`), else as a flow (`limo_ray.plan.flow`).
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limo_ray.curate.outline import outline as curation
from limo_ray.plan.basis import Basis, basis
from limo_ray.plan.cluster import cost, device, pool_cores
from limo_ray.plan.config import PlanConfig
from limo_ray.plan.counts import Future, Outcome
from limo_ray.plan.events import simulate
from limo_ray.plan.findings import Findings, figures
from limo_ray.plan.flow import details_of, flow, kept_share, per_problem
from limo_ray.plan.replica import PassModel
from limo_ray.plan.table import render
from limo_ray.plan.warn import warnings

QUICK = 4_000_000  # attempts simulated in all trials together: less than a minute


@dataclass(slots=True)
class Plan:
    config: PlanConfig
    method: str
    futures: list[Future]
    findings: Findings
    took_s: float

    def summary(self) -> str:
        """The table, with warnings."""
        return render(self.findings, self.config, self.method, self.took_s)


def plan(config: PlanConfig, _: str = "cpu") -> Plan:
    """Draws the futures, and writes them as JSON if asked.

    Raises ValueError for a cluster that cannot hold an engine, and for a pilot that tells nothing.
    """
    started = time.time()
    base = basis(config)
    central = base.models(None)
    method = config.method if config.method != "auto" else choose(base, central)
    rng = np.random.default_rng(config.seed)
    wanted = base.wanted()
    live = round(config.pool_rows * base.live[0] / sum(base.live))
    details = details_of(central, max(1, live), wanted) if method == "flow" else []
    futures = []
    for trial in range(config.trials):
        models = base.models(rng)
        problems = max(1, round(config.pool_rows * rng.beta(*base.live)))
        overlap = config.difficulty.overlap
        if method == "events":
            outcome = simulate(
                models, problems, wanted=wanted, overlap=overlap, seed=config.seed + trial,
                account=wanted > 0,
            )  # fmt: skip
        else:
            outcome = flow(
                models, details, central, problems, wanted=wanted, overlap=overlap, rng=rng
            )
        futures.append(_future(base, problems, outcome))
    found = figures(base, futures)
    found.warnings = [*base.notes, *warnings(base, central, futures)]
    result = Plan(config, method, futures, found, time.time() - started)
    if config.out:
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        Path(config.out).write_text(json.dumps(found.as_dict(), indent=2) + "\n")
    return result


def choose(base: Basis, central: list[PassModel]) -> str:
    """events where all trials together are quick, else flow."""
    share = math.prod(kept_share(model) for model in central)
    problems = base.config.pool_rows * base.live[0] / sum(base.live)
    if wanted := base.wanted():
        problems = min(problems, 2 * wanted / max(share, 1e-12) + _held(central))
    attempts = 0.0
    for model in central:
        attempts += problems * sum(one.reach * one.attempts for one in per_problem(model))
        problems *= kept_share(model)
    return "events" if attempts * base.config.trials < QUICK else "flow"


def _held(models: list[PassModel]) -> int:
    return sum(model.replicas * model.batch * model.batches for model in models)


def _future(base: Basis, problems: int, outcome: Outcome) -> Future:
    config = base.config
    per_second = config.assume.rows_per_s * pool_cores(config.cluster)
    pool_s = base.pool_s + config.pool_rows / per_second
    seconds = config.assume.job_s + pool_s + outcome.seconds
    overlap = config.difficulty.overlap
    begins = [0.0] + [0.0 if overlap else one.ended for one in outcome.passes[:-1]]
    spans = [one.ended - begin for begin, one in zip(begins, outcome.passes, strict=True)]
    money = cost(config.cluster, base.places, spans, pool_s, seconds)
    return Future(problems, outcome, pool_s, seconds, spans, money)


def outline(config: PlanConfig, _: str = "cpu") -> str:
    """What would be planned, for --dry-run: the curation, and where its engines go."""
    base = basis(config)
    lines = [curation(config, device(config.cluster)), "cluster"]
    for share in base.places:
        lines.append(
            f"  {share.engine}: {share.replicas} of at most {share.wanted} replica(s) on "
            f"{share.nodes:.4g} node(s) of kind {share.kind}"
        )
    lines += [f"  {stage}: {belief.basis}" for stage, belief in base.stages.items()]
    return "\n".join(lines)
