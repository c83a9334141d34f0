"""The schema of jobs/plan.py: a curation's own keys, the cluster, and what is assumed of both."""

from dataclasses import dataclass, field

from limo_ray.curate.config import CurateConfig


@dataclass(kw_only=True, slots=True)
class NodeConfig:
    gpus: int = 0
    """GPUs of each node."""
    cpus: float = 8.0
    """CPU cores of each node."""
    count: int = 1
    """Nodes of this kind, at the most."""
    price_per_hour: float = 0.0
    """Of one node, in whatever currency."""
    preemptions_per_hour: float = 0.0
    """How often one node is taken away; 0 for on-demand nodes. Another one comes after start_s."""
    start_s: float = 0.0
    """Seconds from asking for a node until Ray runs on it."""

    def check(self) -> None:
        for name in ("gpus", "cpus", "count", "price_per_hour", "preemptions_per_hour", "start_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")


def _nodes() -> dict[str, NodeConfig]:
    """The shape of cluster.yaml. Prices are rounded AWS list prices of late 2025: name your own."""
    return {
        "head": NodeConfig(cpus=8, price_per_hour=0.4),
        "cpu": NodeConfig(cpus=32, count=4, price_per_hour=1.4, start_s=120),
        "spot": NodeConfig(
            gpus=8, cpus=192, count=8, price_per_hour=25, preemptions_per_hour=0.05, start_s=400
        ),
        "gpu": NodeConfig(gpus=8, cpus=192, count=2, price_per_hour=55, start_s=400),
    }


@dataclass(kw_only=True, slots=True)
class ClusterConfig:
    nodes: dict[str, NodeConfig] = field(default_factory=_nodes)
    """Kinds of nodes, by name. A preset changes or adds kinds; count=0 takes one away."""
    place: dict[str, str] = field(default_factory=dict)
    """Kind of node by engine; others go to the cheapest per GPU that has room, engines that span
    nodes to the kind that is preempted least."""

    def check(self) -> None:
        for engine, kind in self.place.items():
            if kind not in self.nodes:
                raise ValueError(
                    f"place.{engine}: {kind!r} is none of nodes ({', '.join(self.nodes)})"
                )


@dataclass(kw_only=True, slots=True)
class StageAssumption:
    alpha: float = 1.0
    """Pass rates of the problems that reach the stage are drawn from Beta(alpha, beta)."""
    beta: float = 1.0
    """See alpha."""
    tokens_correct: float = 1000.0
    """Median length of a correct completion; lengths are log-normal, cut at max_tokens."""
    tokens_other: float = 1000.0
    """Median length of any other completion."""
    spread: float = 0.7
    """Standard deviation of the logarithm of the length."""
    prompt_tokens: float = 150.0
    """Mean prompt, in tokens."""

    def check(self) -> None:
        for name in ("alpha", "beta", "tokens_correct", "tokens_other"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")
        for name in ("spread", "prompt_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")


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
        if self.one <= 0:
            raise ValueError(f"one: {self.one} must be positive")
        if self.full < self.one:
            raise ValueError(f"full: {self.full} must be at least `one` ({self.one})")
        if self.at < 0 or (self.at and self.full > self.at * self.one):
            raise ValueError(
                f"at: {self.at} sequences of at most {self.one} tokens/s each cannot make "
                f"{self.full} (`full`)"
            )
        if self.start_s < 0:
            raise ValueError(f"start_s: {self.start_s} must not be negative")


def _stages() -> dict[str, StageAssumption]:
    """Neither paper publishes pass rates or lengths of its pool: our reading of what is published.

    weak: a U shape with a mean of 0.6. s1 (arXiv 2501.19393) kept 24,496 of 51,581 problems that
    two models failed at once each; its pool is harder than NuminaMath and the like.
    strong: of what the weak model never solves, a third is solved mostly, half seldom or never
    (some of it for a wrong gold answer). Lengths are a guess at what reasoning models write on the
    harder problems.
    teacher: the kept problems, by a better model.
    """
    return {
        "weak": StageAssumption(
            alpha=0.6, beta=0.4, tokens_correct=550, tokens_other=900, spread=0.5
        ),
        "strong": StageAssumption(
            alpha=0.5, beta=0.7, tokens_correct=6500, tokens_other=11000, spread=0.7
        ),
        "teacher": StageAssumption(
            alpha=0.8, beta=1.6, tokens_correct=9000, tokens_other=13000, spread=0.7
        ),
    }


def _models() -> dict[str, SpeedConfig]:
    """Of the presets' models on 80 GB H100s, by arithmetic: one sequence reads the weights at 70 %
    of the memory's bandwidth; many at once are held to what published serving benchmarks of models
    of this size reach with long answers (GPUStack's performance lab, vLLM's blog). Factors of two
    are usual: measure with a pilot. SmolLM2's are of two CPU cores (conf/plan/laptop.yaml)."""
    small = SpeedConfig(one=150, full=8000, at=256, start_s=120)
    large = SpeedConfig(one=65, full=3000, at=128, start_s=240)
    return {
        "Qwen/Qwen2.5-Math-7B-Instruct": small,
        "Qwen/Qwen2.5-7B-Instruct": small,
        "Qwen/Qwen2.5-32B-Instruct": large,
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": large,
        "Qwen/QwQ-32B": large,
        "packaged/SmolLM2-135M-Instruct": SpeedConfig(one=15, full=340, at=64, start_s=30),
        "deepseek-ai/DeepSeek-R1": SpeedConfig(one=25, full=4000, at=256, start_s=900),
    }


@dataclass(kw_only=True, slots=True)
class AssumeConfig:
    """What no pilot tells. Errors are factors: 95 % of what may be lies within them, either way."""

    stages: dict[str, StageAssumption] = field(default_factory=_stages)
    """By stage: weak, strong, a teacher's name, or teacher for all others of them."""
    speeds: dict[str, SpeedConfig] = field(default_factory=dict)
    """By engine (as in `engines`); those not named go by their model, see `models`."""
    models: dict[str, SpeedConfig] = field(default_factory=_models)
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
        for name in ("speed_error", "measured_speed_error", "tokens_error", "odds_error"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be a factor of at least 1")
        if not 0 < self.live_share <= 1:
            raise ValueError(f"live_share: {self.live_share} must be in (0, 1]")
        for name in ("rows_per_s", "checks_per_s", "live_worth"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")
        for name in ("pool_s", "job_s", "bytes_per_token", "bytes_per_attempt", "bytes_per_row"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")


@dataclass(kw_only=True, slots=True)
class PlanConfig(CurateConfig):
    pool_rows: int = -1
    """Rows that the sources hold; -1 counts them where the config tells (generated problems)."""
    pilot: str = ""
    """Run directory (<store>/runs/<name>) of a smaller run, whose log replaces assumptions."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    assume: AssumeConfig = field(default_factory=AssumeConfig)
    method: str = "auto"
    """events: every attempt is simulated; flow: one replica is, the rest is computed; auto: events
    where all trials take less than about a minute."""
    trials: int = 200
    """Futures that are drawn, for the intervals."""
    interval: float = 0.9
    """Share of the futures that an interval holds."""
    out: str = ""
    """File for the plan as JSON."""

    def check(self) -> None:
        CurateConfig.check(self)
        if self.pool_rows == -1:
            self.pool_rows = _rows_told(self)
        if self.pool_rows < 1:
            raise ValueError(f"pool_rows: {self.pool_rows} must be at least 1")
        if self.method not in ("auto", "events", "flow"):
            raise ValueError(f"method: {self.method!r} is none of auto, events, flow")
        if self.trials < 1:
            raise ValueError(f"trials: {self.trials} must be at least 1")
        if not 0 < self.interval < 1:
            raise ValueError(f"interval: {self.interval} must be in (0, 1)")
        unknown = [name for name in self.cluster.place if name not in self.engines]
        if unknown:
            known = ", ".join(self.engines)
            raise ValueError(f"cluster.place.{unknown[0]}: there is no such engine ({known})")
        unknown = [name for name in self.assume.speeds if name not in self.engines]
        if unknown:
            known = ", ".join(self.engines)
            raise ValueError(f"assume.speeds.{unknown[0]}: there is no such engine ({known})")


def _rows_told(config: PlanConfig) -> int:
    if not all(source.gym or source.limit for source in config.sources):
        raise ValueError("pool_rows: name how many rows the sources hold, such as 10_000_000")
    return sum(sum(source.gym.values()) or source.limit for source in config.sources)
