"""The schema of jobs/plan.py: a curation's own keys, the cluster, and what is assumed of both."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from limo_ray.core.checks import check_at_least, check_between, check_one_of
from limo_ray.curate.config import CurateConfig


def _defaults(table: str, kind: Any) -> dict[str, Any]:
    """One of the tables of defaults.yaml."""
    settings = yaml.safe_load(Path(__file__).with_name("defaults.yaml").read_text())
    rows = settings["cluster" if table == "nodes" else "assume"][table]
    return {name: kind(**values) for name, values in rows.items()}


def _check_numbers(config: Any, *positive: str) -> None:
    """Refuses numbers below 0, and 0 in the fields named."""
    for name in (each.name for each in fields(config)):
        value = getattr(config, name)
        if isinstance(value, int | float) and (value < 0 or (not value and name in positive)):
            must = "be positive" if name in positive else "not be negative"
            raise ValueError(f"{name}: {value} must {must}")


@dataclass(kw_only=True, slots=True)
class NodeConfig:
    gpus: int = 0
    """GPUs of each node."""
    cpus: float = 8.0
    """CPU cores of each node."""
    count: int = 1
    """Nodes of this type, at the most."""
    price_per_hour: float = 0.0
    """Of one node, in whatever currency."""
    preemptions_per_hour: float = 0.0
    """How often one node is taken away; 0 for on-demand nodes. Another one comes after start_s."""
    start_s: float = 0.0
    """Seconds from asking for a node until Ray runs on it."""

    def check(self) -> None:
        _check_numbers(self)


@dataclass(kw_only=True, slots=True)
class ClusterConfig:
    nodes: dict[str, NodeConfig] = field(default_factory=lambda: _defaults("nodes", NodeConfig))
    """Node types, by name. A preset changes or adds types; count=0 takes one away."""


@dataclass(kw_only=True, slots=True)
class StageAssumption:
    alpha: float = 1.0
    """Pass rates of the problems that reach the stage are sampled from Beta(alpha, beta)."""
    beta: float = 1.0
    """See alpha."""
    tokens_correct: float = 1000.0
    """Median length of a correct completion; lengths are log-normal, cut at max_tokens."""
    tokens_other: float = 1000.0
    """Median length of any other completion."""
    spread: float = 0.7
    """Standard deviation of the logarithm of the length."""

    def check(self) -> None:
        _check_numbers(self, "alpha", "beta", "tokens_correct", "tokens_other")


@dataclass(kw_only=True, slots=True)
class SpeedConfig:
    one: float = 50.0
    """Tokens per second of a replica that decodes one sequence."""
    full: float = 1000.0
    """Tokens per second of a replica that decodes `at` sequences, all together."""
    at: int = 0
    """Sequences at which `full` holds; 0 for the engine's max_num_seqs."""
    start_s: float = 180.0
    """Seconds from the first problem until the engine decodes: processes, weights, graphs."""

    def check(self) -> None:
        _check_numbers(self, "one")
        check_at_least("full", self.full, self.one)


@dataclass(kw_only=True, slots=True)
class AssumeConfig:
    """What no pilot tells. Errors are factors: 95 % of what may be lies within them, either way."""

    stages: dict[str, StageAssumption] = field(
        default_factory=lambda: _defaults("stages", StageAssumption)
    )
    """By stage: weak, strong, a teacher's name, or teacher for all others of them."""
    speeds: dict[str, SpeedConfig] = field(default_factory=dict)
    """By engine (as in `engines`); those not named go by their model, see `models`."""
    models: dict[str, SpeedConfig] = field(default_factory=lambda: _defaults("models", SpeedConfig))
    """By model."""
    prompt_tokens: float = 200.0
    """Tokens of a problem with the system prompt; an API's bill counts them for each attempt."""
    speed_error: float = 2.0
    """Of assumed speeds."""
    tokens_error: float = 1.6
    """Of assumed lengths."""
    odds_error: float = 3.0
    """Of the odds of a correct attempt, where pass rates are assumed."""
    live_share: float = 0.6
    """Share of the rows read that are left as problems (filters, duplicates, benchmarks)."""
    live_worth: float = 10.0
    """How many rows' worth of knowledge live_share is: Beta(share * worth, (1 - share) * worth)."""
    pool_s: float = 30.0
    """Seconds of the pool's steps however few the rows are."""
    job_s: float = 30.0
    """Seconds of the job outside pool and sampling: Ray's start, selection, report."""

    def check(self) -> None:
        _check_numbers(self, "live_worth", "live_share")
        for name in ("speed_error", "tokens_error", "odds_error"):
            check_at_least(name, getattr(self, name), 1)
        check_between("live_share", self.live_share, 0, 1)


@dataclass(kw_only=True, slots=True)
class PlanConfig(CurateConfig):
    pool_rows: int = -1
    """Rows that the sources hold; -1 counts them where the config tells (generated problems)."""
    pilot: str = ""
    """Run directory (<store>/runs/<name>) of a smaller run, whose log replaces assumptions."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """The nodes that the curation would run on."""
    assume: AssumeConfig = field(default_factory=AssumeConfig)
    trials: int = 200
    """Samples of the assumptions, for the intervals."""

    def check(self) -> None:
        CurateConfig.check(self)
        if self.pool_rows == -1:
            if not all(source.gym or source.limit for source in self.sources):
                raise ValueError("pool_rows: name how many rows the sources hold (10_000_000, say)")
            self.pool_rows = sum(sum(s.gym.values()) or s.limit for s in self.sources)
        check_at_least("pool_rows", self.pool_rows, 1)
        check_at_least("trials", self.trials, 1)
        for name in self.assume.speeds:
            check_one_of(f"assume.speeds.{name}", name, tuple(self.engines))
        for name, engine in self.engines.items():
            speed, key = self.speed(name), f"assume.speeds.{name}"
            if speed is None:
                raise ValueError(
                    f"{key}: nothing is known of the speed of {engine.model}: name {key}.one, "
                    ".full and .start_s"
                )
            if speed.full > (at := speed.at or engine.max_num_seqs) * speed.one:
                raise ValueError(
                    f"{key}: {at} sequences of at most {speed.one:g} tokens/s each (`one`) cannot "
                    f"make {speed.full:g} (`full`)"
                )

    def speed(self, engine: str) -> SpeedConfig | None:
        """What is assumed of an engine, itself or by its model."""
        models = self.assume.models
        return self.assume.speeds.get(engine) or models.get(self.engines[engine].model)
