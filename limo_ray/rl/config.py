"""The schema of conf/rl: everything that a reinforcement learning can be told."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from limo_ray.core.checks import check_at_least, check_between, check_folder_name, check_one_of
from limo_ray.core.prompts import SYSTEM
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.problems import inputs
from limo_ray.problems.chats import RowsConfig
from limo_ray.problems.sources import SourceConfig
from limo_ray.runs.hub import PublishConfig
from limo_ray.sampling.config import SamplerConfig
from limo_ray.train.config import (
    BatchConfig,
    CheckpointConfig,
    ComputeConfig,
    LoraConfig,
    OptimizerConfig,
    TrainConfig,
    WatchConfig,
    WorkersConfig,
    ZeroConfig,
)

AVERAGES = ("token", "sequence", "constant")


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """The policy loss; each formula with its source is in limo_ray/rl/grpo.py."""

    divide_by_std: bool = False
    """Divide advantages by their group's standard deviation (GRPO); false as in Dr. GRPO."""
    average: str = "token"
    """token: all tokens of a step count the same (DAPO); sequence: all rollouts do (GRPO);
    constant: the sum over rollouts x sampling.max_tokens (Dr. GRPO)."""
    clip_low: float = 0.2
    """The ratio of new to old probability counts down to 1 - clip_low."""
    clip_high: float = 0.28
    """And up to 1 + clip_high: above clip_low it leaves room for rare tokens (DAPO)."""
    kl: float = 0.0
    """Weight of the KL divergence from the model that training began with; 0: none, and no second
    model in memory."""
    importance_cap: float = 2.0
    """Largest importance weight between the trainer's and the engine's probability of a token
    (TIS); 0 leaves the weight out."""
    overlong: str = "mask"
    """mask: a completion that ran into sampling.max_tokens is not learned from, and its reward
    counts in its group's mean; keep: it is learned from as any other."""

    def check(self) -> None:
        check_one_of("average", self.average, AVERAGES)
        check_one_of("overlong", self.overlong, ("mask", "keep"))
        for name in ("clip_low", "clip_high"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0 and below 1")
        check_at_least("kl", self.kl, 0)
        if self.importance_cap and self.importance_cap < 1:
            raise ValueError(f"importance_cap: {self.importance_cap} must be 0 (off) or at least 1")


@dataclass(kw_only=True, slots=True)
class RewardConfig:
    """What a verdict is worth; a correct answer is worth 1."""

    format_reward: float = 0.0
    """Of an answer that is wrong but can be read; TinyZero gives 0.1."""
    loop_reward: float = 0.0
    """Of a completion that repeated itself until it was stopped; below 0 punishes it."""

    def check(self) -> None:
        check_between("format_reward", self.format_reward, 0, 1)
        check_between("loop_reward", self.loop_reward, -1, 0)


@dataclass(kw_only=True, slots=True)
class ChoiceConfig:
    """Which problems a step takes, and when a group is given up."""

    by: str = "pass_rate"
    """pass_rate: those first whose groups will likely have variance; uniform: any."""
    floor: float = 0.1
    """Share of choices that are uniform whatever is known of a problem."""
    memory: float = 0.7
    """What older attempts count against a step's new ones, each time that a problem is tried."""
    most_known: int = 4
    """Attempts from before the training count as at most so many; 0: they do not count."""
    probe: int = 4
    """Rollouts after which a group is given up when all have the same reward; 0 draws whole
    groups, as DAPO's dynamic sampling does."""
    most_tried: int = 4
    """Problems that a step tries at most, in multiples of rollouts.problems; then it learns from
    the groups that it has."""

    def check(self) -> None:
        check_one_of("by", self.by, ("pass_rate", "uniform"))
        check_between("floor", self.floor, 0, 1)
        check_between("memory", self.memory, 0, 1)
        for name, least in (("most_known", 0), ("probe", 0), ("most_tried", 1)):
            check_at_least(name, getattr(self, name), least)
        if self.probe == 1:
            raise ValueError("probe: 1 rollout has no variance: give 0 or at least 2")


@dataclass(kw_only=True, slots=True)
class RolloutsConfig:
    """How many rollouts a step has."""

    problems: int = 32
    """Groups of a step."""
    size: int = 8
    """Rollouts of each."""
    updates: int = 1
    """Optimizer steps on a step's rollouts, each on an equal share of them."""
    max_staleness: int = 0
    """0: a step's rollouts are drawn with the newest weights; 1: those of the step before, so that
    engines and workers are busy at the same time."""

    def check(self) -> None:
        for name, least in (("problems", 1), ("size", 2), ("updates", 1)):
            check_at_least(name, getattr(self, name), least)
        check_between("max_staleness", self.max_staleness, 0, 1)


@dataclass(kw_only=True, slots=True)
class HeldOutConfig:
    """Problems that are never trained on, attempted now and then."""

    sources: list[SourceConfig] = field(default_factory=list)
    """Where they come from; none: nothing is evaluated."""
    every_steps: int = 10
    """Steps between two evaluations; there is one before the first step and one after the last."""
    attempts: int = 4
    """At each problem, under the training's own sampling."""

    def check(self) -> None:
        check_at_least("every_steps", self.every_steps, 1)
        check_at_least("attempts", self.attempts, 1)


@dataclass(kw_only=True, slots=True)
class RLConfig:
    name: str = "rl"
    """Of the model, <store>/models/<name>, and of the run, <store>/rl/<name>."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of runs."""
    seed: int = 0
    """Of the choice of problems, generated problems and the engines."""
    model: str = "???"
    """The model to start from: folder, hub id, or packaged/SmolLM2-135M-Instruct."""
    revision: str = ""
    """Branch, tag or commit of a hub id; empty for its main branch."""
    licence: str = "other"
    """Written into the model card: what model and data allow."""
    system: str = SYSTEM
    """System prompt of every rollout; empty for none."""
    run: str = ""
    """A curation's folder, <store>/runs/<name>: its kept problems and their pass rates."""
    sources: list[SourceConfig] = field(default_factory=list)
    """Or a raw pool: sources as a curation has them, without its filters."""
    steps: int = 100
    """Steps of the training: rollouts, then rollouts.updates optimizer steps."""
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_p=1.0, max_tokens=1024)
    )
    """Of the rollouts. Filters (top_p, top_k, min_p) must be off: the loss needs the probabilities
    that tokens were drawn with."""
    engine: EngineConfig = field(default_factory=lambda: EngineConfig(model="the policy"))
    """What draws rollouts; min_replicas engines. Its model is the policy and its dtype
    compute.precision, whatever is given."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How rollouts are logged and verified."""
    share_gpu: bool = False
    """One GPU for the engine and the worker, which take turns: the engine leaves it while the
    worker learns. engine.gpu_memory and the worker's parameters and states must fit it together."""
    weights: str = "/dev/shm"
    """Folder that workers and engines both see, for the weights of each step: memory on one
    machine, a shared file system on several."""
    pack_tokens: int = 0
    """Most tokens in one forward pass of a worker; 0: engine.max_model_len."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-6, schedule="constant", epochs=1)
    )
    """Its epochs and max_steps are not used: `steps` says how long."""
    lora: LoraConfig | None = None
    """Train adapters only; null trains all weights."""
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    checkpoint: CheckpointConfig = field(
        default_factory=lambda: CheckpointConfig(every_steps=10, every_epoch=False)
    )
    """When the state is saved, from which a training goes on; every_steps alone counts."""
    watch: WatchConfig = field(default_factory=lambda: WatchConfig(spike=20.0))
    """Which gradient norms are watched, and where figures are sent."""
    publish: PublishConfig = field(default_factory=PublishConfig)

    def check(self) -> None:
        check_folder_name(self.name)
        check_at_least("steps", self.steps, 1)
        if bool(self.run) == bool(self.sources):
            raise ValueError("run: give exactly one of run and sources")
        for name, off in (("top_p", 1), ("top_k", 0), ("min_p", 0)):
            if getattr(self.sampling, name) != off:
                raise ValueError(
                    f"sampling.{name}: {getattr(self.sampling, name)} must be {off}: the loss "
                    "needs the probabilities that tokens were drawn with"
                )
        if not self.sampling.temperature:
            raise ValueError("sampling.temperature: 0 draws the same rollout each time")
        if self.sampling.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"sampling.max_tokens: {self.sampling.max_tokens} leaves no room for a prompt in "
                f"engine.max_model_len ({self.engine.max_model_len})"
            )
        check_one_of("engine.kind", self.engine.kind, ("vllm", "scripted"))
        if self.choice.probe >= self.rollouts.size:
            raise ValueError(
                f"choice.probe: {self.choice.probe} must be below rollouts.size "
                f"({self.rollouts.size}); 0 draws whole groups"
            )
        if self.engine.min_replicas > self.rollouts.problems:
            raise ValueError(
                f"engine.min_replicas: {self.engine.min_replicas} engines for "
                f"{self.rollouts.problems} groups of a step"
            )
        for name, only in (("sequence_parallel", 1), ("cross_entropy", "chunked"),
                           ("offload_activations", False)):  # fmt: skip
            if getattr(self.compute, name) != only:
                raise ValueError(
                    f"compute.{name}: {getattr(self.compute, name)} must be {only} here"
                )
        if self.rollouts.updates > self.rollouts.problems:
            raise ValueError(
                f"rollouts.updates: {self.rollouts.updates} is more than rollouts.problems "
                f"({self.rollouts.problems})"
            )
        if self.lora and self.lora.bits == 4:
            raise ValueError(
                "lora.bits: 4 cannot be written for the engines at every step: give 16"
            )
        if self.share_gpu:
            for name, value, only in (
                ("workers.count", self.workers.count, 1),
                ("engine.min_replicas", self.engine.min_replicas, 1),
                ("engine.tensor_parallel", self.engine.tensor_parallel, 1),
                ("engine.pipeline_parallel", self.engine.pipeline_parallel, 1),
                ("rollouts.max_staleness", self.rollouts.max_staleness, 0),
            ):
                if value != only:
                    raise ValueError(f"{name}: {value} must be {only} with share_gpu")
        self.training().check()

    def training(self) -> TrainConfig:
        """What the workers are told: the sections that a supervised training has too."""
        return TrainConfig(
            name=self.name, store=self.store, seed=self.seed, model=self.model,
            revision=self.revision, licence=self.licence, data="rollouts",
            rows=RowsConfig(max_tokens=self.engine.max_model_len),
            batch=BatchConfig(examples=self.rollouts.problems * self.rollouts.size,
                              pack_tokens=self.pack_tokens),
            optimizer=replace(self.optimizer, max_steps=self.steps),
            lora=self.lora, zero=self.zero, compute=self.compute, workers=self.workers,
            checkpoint=self.checkpoint, watch=self.watch,
        )  # fmt: skip

    def policy_engine(self, device: str) -> EngineConfig:
        """The engine of the policy."""
        own = device if self.engine.device == "auto" else self.engine.device
        sleeps = {"enable_sleep_mode": True} if self.share_gpu and own == "gpu" else {}
        return replace(
            self.engine, model=self.model, revision=self.revision, device=own, seed=self.seed,
            dtype=self.compute.precision, extra=sleeps | self.engine.extra,
        )  # fmt: skip

    def inputs(self) -> list[inputs.Input]:
        """What it needs from elsewhere."""
        data = [inputs.of_source(each) for each in self.sources]
        if self.run:
            data = [inputs.of_data(self.run)]
        held_out = [inputs.of_source(each, "held out") for each in self.held_out.sources]
        return [*data, *held_out, inputs.of_model(self.model, self.revision)]

    def curve(self) -> dict[str, Any]:
        """What the course of a training depends on: with the same values it goes on."""
        found: dict[str, Any] = {name: asdict(getattr(self, name))
                 for name in ("rollouts", "choice", "reward", "loss", "sampling")}  # fmt: skip
        found |= {"system": self.system, "max_model_len": self.engine.max_model_len}
        return found | self.training().curve()
