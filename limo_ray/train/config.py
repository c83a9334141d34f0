"""The schema of conf/train: everything that a training can be told."""

from dataclasses import asdict, dataclass, field
from typing import Any

from limo_ray.core.checks import check_at_least, check_between, check_folder_name, check_one_of
from limo_ray.problems import inputs
from limo_ray.problems.chats import RowsConfig
from limo_ray.runs.hub import PublishConfig

DEVICES = ("auto", "gpu", "cpu")
TRACKERS = ("wandb", "mlflow")
LOSSES = ("cross_entropy", "dft")


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """How an optimizer step's examples are chosen and laid out."""

    examples: int = 64
    """The global batch: examples per optimizer step, for any number of workers."""
    tokens: int = 0
    """Learned tokens per optimizer step instead, whatever the number of examples; 0: examples."""
    packing: bool = True
    """Lay examples end to end in one row, each seeing only itself; false: padded rows."""
    pack_tokens: int = 0
    """Packed: the most tokens in one forward pass of a worker; 0: rows.max_tokens."""
    micro_examples: int = 1
    """Not packed: rows in one forward pass of a worker."""

    def check(self) -> None:
        check_at_least("examples", self.examples, 1)
        check_at_least("micro_examples", self.micro_examples, 1)
        check_at_least("pack_tokens", self.pack_tokens, 0)
        check_at_least("tokens", self.tokens, 0)


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW and its learning rate."""

    lr: float = 5e-6
    """Peak learning rate."""
    epochs: int = 15
    """Passes over the examples."""
    max_steps: int = 0
    """Stop after so many optimizer steps, whatever the epochs; 0: no such limit."""
    schedule: str = "cosine"
    """cosine, linear (both down to lr x min_lr) or constant, after the warm-up."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises to its peak."""
    min_lr: float = 0.0
    """Share of the peak that the schedule ends at."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of that mean, against division by zero."""
    weight_decay: float = 0.0
    """Of all weights but norms and biases."""
    clip: float = 1.0
    """Largest norm of the gradient; 0: no clipping."""

    def check(self) -> None:
        check_one_of("schedule", self.schedule, ("cosine", "linear", "constant"))
        if not self.lr > 0:
            raise ValueError(f"lr: {self.lr} must be positive")
        check_at_least("epochs", self.epochs, 1)
        check_at_least("max_steps", self.max_steps, 0)
        for name in ("warmup", "min_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be between 0 and 1")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 0 and below 1")
        check_at_least("weight_decay", self.weight_decay, 0)
        check_at_least("clip", self.clip, 0)


@dataclass(kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adapters (peft) instead of all weights; written as they are, and merged."""

    rank: int = 16
    """Width of the adapters."""
    alpha: int = 32
    """The adapters' scale is alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs that are set to zero while training."""
    bits: int = 16
    """4 keeps the frozen weights in 4 bits (QLoRA; needs bitsandbytes); 16 as compute.precision."""
    modules: list[str] = field(
        default_factory=lambda: [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ]
    )  # fmt: skip
    """Names of the layers that get one."""

    def check(self) -> None:
        check_at_least("rank", self.rank, 1)
        if self.bits not in (4, 16):
            raise ValueError(f"bits: {self.bits} is neither 4 nor 16")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout} must be at least 0 and below 1")
        if not self.modules:
            raise ValueError("modules: none given")


@dataclass(kw_only=True, slots=True)
class ZeroConfig:
    """What DeepSpeed spreads over the workers and what it keeps in host memory."""

    stage: int = 3
    """0: nothing is spread; 1: optimizer states; 2: and gradients; 3: and parameters."""
    offload_optimizer: bool = False
    """Optimizer states and step in host memory (stages 1 to 3)."""
    offload_parameters: bool = False
    """Parameters in host memory (stage 3)."""
    states: str = "float32"
    """Master weights and optimizer states: float32, or bfloat16 (half the memory, some risk)."""
    bucket: int = 50_000_000
    """Elements that are reduced or gathered together."""

    def check(self) -> None:
        if self.stage not in (0, 1, 2, 3):
            raise ValueError(f"stage: {self.stage} is none of 0, 1, 2, 3")
        if self.offload_optimizer and self.stage == 0:
            raise ValueError("offload_optimizer: True needs stage 1, 2 or 3, got stage 0")
        if self.offload_parameters and self.stage != 3:
            raise ValueError(f"offload_parameters: True needs stage 3, got stage {self.stage}")
        check_one_of("states", self.states, ("float32", "bfloat16"))
        check_at_least("bucket", self.bucket, 1000)


@dataclass(kw_only=True, slots=True)
class ComputeConfig:
    """How a forward and backward pass is computed."""

    precision: str = "bfloat16"
    """Of parameters and activations: bfloat16 or float32. Optimizer states: zero.states."""
    cross_entropy: str = "chunked"
    """chunked: only the learned tokens' logits, a chunk at a time; full: all logits at once."""
    chunk: int = 1024
    """Learned tokens whose logits exist at once."""
    recompute: bool = True
    """Activation checkpointing: keep one tensor a layer and compute the others again."""
    offload_activations: bool = False
    """Keep the kept tensors in host memory."""
    sequence_parallel: int = 1
    """Workers that share one row (Ulysses): divides workers and the model's attention heads."""

    def check(self) -> None:
        check_one_of("precision", self.precision, ("bfloat16", "float32"))
        check_one_of("cross_entropy", self.cross_entropy, ("chunked", "full"))
        check_at_least("chunk", self.chunk, 1)
        check_at_least("sequence_parallel", self.sequence_parallel, 1)
        if self.offload_activations and not self.recompute:
            raise ValueError("offload_activations: True needs recompute")


@dataclass(kw_only=True, slots=True)
class WorkersConfig:
    """What the training runs on."""

    count: int = 8
    """Workers: GPUs, or processes on a machine without."""
    fewest: int = 0
    """Start, and go on after a loss of nodes, with as few as this, and with more once there are
    more, up to `count`; 0: always with `count`."""
    device: str = "auto"
    """gpu, cpu, or auto (gpu where the cluster has one)."""
    cpus: float = 1.0
    """CPUs of each worker."""
    labels: dict[str, str] = field(default_factory=dict)
    """Node labels that each worker asks for, as an engine does: {role: "!sampler"}."""
    gpu_gib: float = 80.0
    """Memory of one GPU, for the memory estimate."""
    host_gib: float = 0.0
    """Host memory for each node's workers, for the memory plan; 0: not judged."""
    per_node: int = 8
    """Workers on one node, for the memory estimate."""
    max_failures: int = 3
    """Restarts after a worker or node died (preempted nodes are not counted)."""

    def check(self) -> None:
        check_at_least("count", self.count, 1)
        check_between("fewest", self.fewest, 0, self.count)
        check_one_of("device", self.device, DEVICES)
        check_at_least("per_node", self.per_node, 1)
        check_at_least("max_failures", self.max_failures, 0)


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    every_steps: int = 0
    """A checkpoint every so many optimizer steps; 0: only those of the epochs."""
    every_epoch: bool = True
    """A checkpoint at the end of each epoch."""
    keep: int = 2
    """The last so many stay."""
    best: bool = False
    """The weights with the highest score (see `scores`), or else the lowest held-out loss, are kept
    too, as a model folder `best`."""

    def check(self) -> None:
        check_at_least("every_steps", self.every_steps, 0)
        check_at_least("keep", self.keep, 1)


@dataclass(kw_only=True, slots=True)
class ScoresConfig:
    """Training stops at the end of an epoch, the student is evaluated, and training goes on."""

    evaluate: dict[str, Any] = field(default_factory=dict)
    """Keys of an evaluation, of a small set; `preset` names a file that they go over."""
    benchmark: str = ""
    """Of these, the one whose pass@1 is the score; empty: the first."""
    every_epochs: int = 1
    """A score after every so many epochs, and one at the end."""
    patience: int = 0
    """Stop after so many scores in a row that are no better than the best before; 0: never."""

    def check(self) -> None:
        check_at_least("every_epochs", self.every_epochs, 1)
        check_at_least("patience", self.patience, 0)
        if not self.evaluate:
            raise ValueError("evaluate: none given")


@dataclass(kw_only=True, slots=True)
class WatchConfig:
    spike: float = 2.0
    """A loss above so many times the median of the last `window` steps is a spike."""
    window: int = 20
    """Steps that the median is taken over; no spike is called before so many."""
    patience: int = 10
    """Steps in a row that a spike may last before the training stops."""
    trackers: list[str] = field(default_factory=list)
    """wandb, mlflow: also told, beside TensorBoard; they are installed and set up by the user."""

    def check(self) -> None:
        if not self.spike > 1:
            raise ValueError(f"spike: {self.spike} must be more than 1")
        check_at_least("window", self.window, 2)
        check_at_least("patience", self.patience, 1)
        for tracker in self.trackers:
            check_one_of("trackers", tracker, TRACKERS)


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    name: str = "train"
    """Of the model, <store>/models/<name>, and of the run, <store>/training/<name>."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of runs."""
    seed: int = 0
    """Of the order of examples, the held-out draw and dropout."""
    model: str = "???"
    """The model to start from: folder, hub id, or packaged/SmolLM2-135M-Instruct."""
    revision: str = ""
    """Branch, tag or commit of a hub id; empty for its main branch."""
    licence: str = "other"
    """Written into the model card: what model and data allow."""
    data: str = "???"
    """The examples: a Parquet, JSONL or JSON file (local, s3://, gs://), or a hub data set's id."""
    rows: RowsConfig = field(default_factory=RowsConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: str = "cross_entropy"
    """cross_entropy, or dft: each token's times its own probability (arXiv 2508.05629)."""
    lora: LoraConfig | None = None
    """Train adapters only; null trains all weights."""
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When the state is saved, from which a training goes on."""
    scores: ScoresConfig | None = None
    """Evaluations of the student while it is trained; null: none."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """Which losses are watched, and where they are sent."""
    publish: PublishConfig = field(default_factory=PublishConfig)

    def check(self) -> None:
        check_folder_name(self.name)
        check_one_of("loss", self.loss, LOSSES)
        groups, rest = divmod(self.workers.count, self.compute.sequence_parallel)
        if rest:
            raise ValueError(
                f"workers.count: {self.workers.count} cannot be divided by "
                f"compute.sequence_parallel ({self.compute.sequence_parallel})"
            )
        if self.workers.fewest and self.compute.sequence_parallel > 1:
            raise ValueError(
                f"workers.fewest: {self.workers.fewest} needs compute.sequence_parallel 1, got "
                f"{self.compute.sequence_parallel}: any number of workers must do"
            )
        if groups > self.batch.examples:
            raise ValueError(
                f"batch.examples: {self.batch.examples} examples cannot be a global batch of "
                f"{groups} workers, each needs one: give at most {self.batch.examples} workers, or "
                "a larger batch"
            )
        each = self.batch.micro_examples * groups
        if not self.batch.packing and self.batch.examples % each:
            raise ValueError(
                f"batch.examples: {self.batch.examples} is not a multiple of {each} "
                f"(batch.micro_examples {self.batch.micro_examples} x {groups} workers)"
            )
        if self.compute.sequence_parallel > 1 and not (
            self.batch.packing or self.batch.micro_examples == 1
        ):
            raise ValueError(
                f"batch.micro_examples: {self.batch.micro_examples} must be 1, or batch.packing "
                "true, with compute.sequence_parallel"
            )
        if 0 < self.batch.pack_tokens < self.rows.max_tokens:
            raise ValueError(
                f"batch.pack_tokens: {self.batch.pack_tokens} is less than rows.max_tokens "
                f"({self.rows.max_tokens})"
            )
        if self.checkpoint.best and not self.rows.held_out and not self.scores:
            raise ValueError("checkpoint.best: True needs rows.held_out or scores")
        if self.lora and self.lora.bits == 4 and self.zero.stage == 3:
            raise ValueError("zero.stage: 3 cannot spread weights in 4 bits (lora.bits): give 1, 2")
        if self.lora and self.zero.states == "bfloat16":
            raise ValueError("zero.states: bfloat16 saves nothing with lora")
        if self.zero.stage == 0 and self.compute.precision == "bfloat16":
            raise ValueError(
                "zero.stage: 0 keeps no float32 weights beside bfloat16 ones, small updates are "
                "lost: give stage 1, 2 or 3, or compute.precision float32"
            )
        if self.zero.states == "bfloat16" and self.compute.precision != "bfloat16":
            raise ValueError("zero.states: bfloat16 needs compute.precision bfloat16")

    def inputs(self) -> list[inputs.Input]:
        """What it needs from elsewhere."""
        data = inputs.of_data(self.data, self.rows.revision)
        return [data, inputs.of_model(self.model, self.revision)]

    @property
    def pack_tokens(self) -> int:
        """Tokens that a packed row may have."""
        return self.batch.pack_tokens or self.rows.max_tokens

    def curve(self) -> dict[str, Any]:
        """What the loss curve depends on: a run with the same values goes on from a checkpoint.

        The number of workers, ZeRO, packing and the like only change how it is computed.
        """
        rows, batch, optimizer = asdict(self.rows), self.batch.examples, asdict(self.optimizer)
        lora = asdict(self.lora) if self.lora else None
        if lora and lora["bits"] == 16:
            del lora["bits"]  # trainings from before there was a choice go on
        precision = [self.compute.precision, self.zero.states]
        found = {
            "rows": rows, "examples": batch, "optimizer": optimizer, "lora": lora,
            "precision": precision, "seed": self.seed,
        }  # fmt: skip
        found |= {"tokens": self.batch.tokens} if self.batch.tokens else {}
        return found | ({} if self.loss == "cross_entropy" else {"loss": self.loss})
