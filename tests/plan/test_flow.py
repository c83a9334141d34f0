"""The quick way and the full simulation come to the same."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from limo_ray.plan import replica
from limo_ray.plan.counts import Outcome
from limo_ray.plan.events import simulate
from limo_ray.plan.flow import details_of, flow
from limo_ray.plan.replica import PassModel
from tests.plan.models import curation

ROOT = Path(__file__).parent.parent.parent
PROBLEMS = 10_000
SEEDS = 3
CASES = {
    "the whole pool": {},
    "many replicas, few problems each": {"replicas": (8, 24, 2)},
    "a target": {"wanted": 250},
    "a target for many replicas": {"wanted": 250, "replicas": (8, 24, 2)},
    "a first engine that is held back": {"wanted": 250, "replicas": (8, 4, 1), "ahead": 2},
    "one engine after the other": {"wanted": 250, "overlap": False},
    "nodes that vanish": {"preemptions_per_hour": 2.0},
}


def flows(
    models: list[PassModel], wanted: int = 0, overlap: bool = True, trials: int = 40
) -> list[Outcome]:
    details, rng = details_of(models, PROBLEMS, wanted), np.random.default_rng(0)
    return [
        flow(models, details, models, PROBLEMS, wanted=wanted, overlap=overlap, rng=rng)
        for _ in range(trials)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_flow_agrees_with_every_event(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems through three engines: each total lies, on the mean, where the flow's do."""
    asked = {"replicas": (2, 4, 1), "preemptions_per_hour": 0.0, **CASES[case]}
    if ahead := asked.pop("ahead", 0):
        monkeypatch.setattr(replica, "MAX_QUEUED_BLOCKS", ahead)
    job = {name: asked.pop(name) for name in ("wanted", "overlap") if name in asked}
    models = curation(node_start_s=120, speculative_share=0.05, **asked)
    seen = [simulate(models, PROBLEMS, seed=seed, account=True, **job) for seed in range(SEEDS)]
    futures = flows(models, **job)

    def holds(name: str, value: Callable[[Outcome], float], slack: float = 0.02) -> None:
        """Within three standard deviations (five of a mean's) of the flow's, and some percent."""
        values = [value(future) for future in futures]
        off = abs(np.mean([value(one) for one in seen]) - np.mean(values))
        assert off <= 3 * np.std(values) + slack * np.mean(values), f"{name}: off by {off}"

    assert len({one.reached for one in [*seen, *futures]}) == 1
    holds("seconds", lambda o: o.seconds)
    holds("sampled", lambda o: o.sampled)
    holds("kept", lambda o: o.kept)
    for place in range(3):
        holds(f"attempts {place}", lambda o, p=place: o.passes[p].stages[0].attempts, 0.05)
        holds(f"tokens {place}", lambda o, p=place: o.passes[p].stages[0].tokens, 0.05)
    if job:
        holds("tokens within", lambda o: o.passes[1].stages[0].within_tokens)
    if asked["preemptions_per_hour"]:
        holds("preemptions", lambda o: sum(p.preemptions for p in o.passes), 0.2)
        holds("lost", lambda o: o.passes[1].stages[0].lost, 0.25)
        holds("saved", lambda o: o.passes[1].stages[0].saved, 0.25)


def test_the_flow_follows_the_truth_of_its_future() -> None:
    """Twice as fast, half the time; what a future's engines are is not what was watched."""
    models = curation()
    details = details_of(models, PROBLEMS, 0)
    slow, again = (
        flow(models, details, models, PROBLEMS, rng=np.random.default_rng(1)) for _ in range(2)
    )
    assert slow == again, "the same generator gives the same future"
    quick = curation()
    for model in quick:
        model.speed = model.speed.times(2)
    fast = flow(quick, details, models, PROBLEMS, rng=np.random.default_rng(1))
    assert fast.seconds == pytest.approx(slow.seconds / 2, rel=0.05)


def test_ten_million_problems_fit_in_little_memory() -> None:
    code = (
        "import re, sys; from limo_ray import cli; "
        "from limo_ray.plan.config import PlanConfig; from limo_ray.plan.job import outline, plan; "
        "rc = cli.main('curate', PlanConfig, plan, outline, sys.argv[1:], "
        "needs_ray=lambda _: False); "
        # not ru_maxrss: that of the process it was forked from counts there too
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read()); "
        "print('MiB', int(peak[1]) // 1024); sys.exit(rc)"
    )
    done = subprocess.run(
        [
            sys.executable, "-c", code, "conf/curate/limo.yaml", "pool_rows=10_000_000",
            "difficulty.stop_after_kept=0", "trials=5", "engines.weak.max_num_seqs=16",
            "engines.strong.max_num_seqs=16", "engines.qwq.max_num_seqs=16",
            "engines.r1.max_num_seqs=16",
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "10,000,000 rows" in done.stdout
    assert int(done.stdout.rpartition("MiB ")[2]) < 600
