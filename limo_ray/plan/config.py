"""The schema of jobs/plan.py: a curation's own keys, the cluster, and what is assumed of both."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from limo_ray.curate.config import CurateConfig

DEFAULTS = Path(__file__).parent / "defaults.yaml"


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
    place: dict[str, str] = field(default_factory=dict)
    """Node type by engine; others go to the cheapest per GPU that has room, engines that span
    nodes to the type that is preempted least."""

    def check(self) -> None:
        for engine, node_type in self.place.items():
            if node_type not in self.nodes:
                known = ", ".join(self.nodes)
                raise ValueError(f"place.{engine}: {node_type!r} is none of nodes ({known})")


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
        if self.full < self.one:
            raise ValueError(f"full: {self.full} must be at least `one` ({self.one})")
        if self.at and self.full > self.at * self.one:
            raise ValueError(
                f"at: {self.at} sequences of at most {self.one} tokens/s each cannot make "
                f"{self.full} (`full`)"
            )


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
    speed_error: float = 2.0
    """Of assumed speeds."""
    measured_speed_error: float = 1.2
    """Of speeds that a pilot measured."""
    tokens_error: float = 1.6
    """Of assumed lengths."""
    odds_error: float = 3.0
    """Of the odds of a correct attempt, where pass rates are assumed."""
    live_share: float = 0.6
    """Share of the rows read that are left as problems (filters, duplicates, benchmarks)."""
    live_worth: float = 10.0
    """How many rows' worth of knowledge live_share is: Beta(share * worth, (1 - share) * worth)."""
    rows_per_s: float = 6700.0
    """Rows through the pool's steps per second and core (bench/pool.py: 13,400 on two cores), from
    files at hand: a hub or a bucket may be slower."""
    pool_s: float = 30.0
    """Seconds of the pool's steps however few the rows are."""
    job_s: float = 30.0
    """Seconds of the job outside pool and sampling: Ray's start, selection, report."""
    bytes_per_token: float = 1.0
    """In the attempt log (zstd), per completion token: 0.4 for 800 chains of thought, eight a
    problem, 1.3 for a small log of SmolLM2's."""
    bytes_per_attempt: float = 40.0
    """In the attempt log beside the completion: 20 to 50 in logs of some hundred attempts."""
    bytes_per_row: float = 170.0
    """Per row read, in pool and ledger: 131 in the pool for gsm8k's questions of 235 characters."""
    checks_per_s: float = 1000.0
    """Completions verified per second and verifying process, slow path included."""

    def check(self) -> None:
        _check_numbers(self, "rows_per_s", "checks_per_s", "live_worth", "live_share")
        for name in ("speed_error", "measured_speed_error", "tokens_error", "odds_error"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be a factor of at least 1")
        if self.live_share > 1:
            raise ValueError(f"live_share: {self.live_share} must be in (0, 1]")


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
    interval: float = 0.9
    """Share of the trials that an interval holds."""
    out: str = ""
    """File for the plan as JSON."""

    def check(self) -> None:
        CurateConfig.check(self)
        if self.pool_rows == -1:
            if not all(source.gym or source.limit for source in self.sources):
                raise ValueError("pool_rows: name how many rows the sources hold (10_000_000, say)")
            self.pool_rows = sum(sum(s.gym.values()) or s.limit for s in self.sources)
        for name in ("pool_rows", "trials"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if not 0 < self.interval < 1:
            raise ValueError(f"interval: {self.interval} must be in (0, 1)")
        keys = [f"cluster.place.{name}" for name in self.cluster.place]
        keys += [f"assume.speeds.{name}" for name in self.assume.speeds]
        for key in keys:
            if key.split(".", 2)[2] not in self.engines:
                raise ValueError(f"{key}: there is no such engine ({', '.join(self.engines)})")


def _defaults(table: str, kind: Any) -> dict[str, Any]:
    """One of the tables of defaults.yaml."""
    settings = yaml.safe_load(DEFAULTS.read_text())
    rows = settings["cluster" if table == "nodes" else "assume"][table]
    return {name: kind(**values) for name, values in rows.items()}
