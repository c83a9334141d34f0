"""One worker's part of a training: its engine, its share of a step, checkpoints, the result."""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint
from torch import Tensor

from limo_ray.core.errors import TrainingError
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train import adapters, checkpoints, universal
from limo_ray.train import model as models
from limo_ray.train.config import TrainConfig
from limo_ray.train.deepspeed import deepspeed_config
from limo_ray.train.table import Layout
from limo_ray.train.tokens import Tokens

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainingJob:
    """What a driver sends its workers."""

    config: TrainConfig
    device: str
    store: Store
    """Its address is absolute: Ray Train's workers run in a folder of their own."""
    model: str
    template: str
    train: list[Tokens]
    held_out: list[Tokens]
    layout: Layout
    state: Any
    """Handle of a tracking.TrainingState actor."""
    until: int = 0
    """Stop after so many steps, with a checkpoint and a model folder; 0: all of them."""


@dataclass(kw_only=True)
class Worker:
    """State of one worker; `history` has a row for every finished step, the same on all."""

    job: TrainingJob
    engine: Any
    history: list[dict[str, Any]] = field(default_factory=list)
    held_out_before: float | None = None
    """The held-out loss before the first step, also of a resumed training."""

    @property
    def first(self) -> bool:
        return dist.get_rank() == 0

    @property
    def group(self) -> int:
        """Which of the groups that share a row this worker is in."""
        return dist.get_rank() // self.job.config.compute.sequence_parallel

    @property
    def _in_4_bits(self) -> bool:
        """Whether the base is; a checkpoint then has the adapters alone."""
        return self.job.config.lora is not None and self.job.config.lora.bits == 4

    def passes(self, data: list[Tokens], chosen: list[int]) -> list[dict[str, Any]]:
        """This worker's forward passes of one batch, as tensors; as many on every worker."""
        shared = self.job.config.compute.sequence_parallel
        layout = self.job.layout
        return [
            models.tensors(
                layout.row(data, row), self.engine.device, dist.get_rank() % shared, shared
            )
            for row in layout.rows(data, chosen)[self.group]
        ]

    def learn(self, chosen: list[int]) -> float:
        """Forward and backward passes of one batch; returns its loss per learned token.

        DeepSpeed averages gradients over the workers: each multiplies by their number, so that
        what comes out is the gradient of the sum over all tokens, divided by their number.
        """
        data = self.job.train
        targets = sum(data[one].targets for one in chosen)
        passes = self.passes(data, chosen)
        total = torch.zeros((), dtype=torch.float64, device=self.engine.device)
        for place, row in enumerate(passes):
            self.engine.set_gradient_accumulation_boundary(place == len(passes) - 1)
            part = self.engine(**row)
            total += part.detach()
            self.engine.backward(part * (dist.get_world_size() / targets), scale_wrt_gas=False)
        return self._summed(total) / targets

    def update(self, lr: float) -> float:
        """The optimizer step; returns the norm of the gradient before clipping."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        norm = None
        if not self.engine.zero_optimization() and not self.engine.bfloat16_enabled():
            grads = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
        self.engine.step()
        norm = self.engine.get_global_grad_norm() if norm is None else norm
        return float("nan") if norm is None else float(norm)

    def held_out_loss(self) -> float:
        """Loss per learned token over the held-out examples."""
        data = self.job.held_out
        size = self.job.config.batch.examples
        total = torch.zeros((), dtype=torch.float64, device=self.engine.device)
        self.engine.eval()
        with torch.no_grad():
            for start in range(0, len(data), size):
                chosen = list(range(start, min(start + size, len(data))))
                for row in self.passes(data, chosen):
                    total += self.engine(**row)
        self.engine.train()
        return self._summed(total) / sum(one.targets for one in data)

    def _summed(self, value: Tensor) -> float:
        dist.all_reduce(value)
        return float(value)

    def save(self, metrics: dict[str, Any]) -> None:
        """A checkpoint: each worker its shard, merged in the storage by Ray Train."""
        folder = Path(tempfile.mkdtemp(prefix="limo_ray-checkpoint-"))
        try:
            self.engine.save_checkpoint(
                str(folder), tag=checkpoints.TAG, exclude_frozen_parameters=self._in_4_bits
            )
            if self.first:
                facts = {"made_by": checkpoints.shard_layout(self.job.config),
                         "history": self.history,
                         "held_out_before": self.held_out_before}  # fmt: skip
                checkpoints.write_facts(folder, facts)
            checkpoints.write_file_list(folder, dist.get_rank())
            dist.barrier()
            upload = partial(checkpoints.upload, self.job.store)
            ray.train.report(
                metrics,
                checkpoint=Checkpoint.from_directory(folder),
                checkpoint_dir_name=f"step_{len(self.history):06d}",
                checkpoint_upload_fn=None if self.job.store.local else upload,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def restore(self) -> None:
        """Goes back to the newest sound checkpoint, if there is any.

        One that other workers or another ZeRO stage made is put together first: see universal.py.
        Raises TrainingError when there are checkpoints and none is sound.
        """
        newest = ray.train.get_checkpoint()
        if newest is None:
            return
        rank, workers = dist.get_rank(), dist.get_world_size()
        for checkpoint in checkpoints.newest_first(newest):
            with checkpoints.local_copy(checkpoint) as copy:
                found: list[str] = [""] * workers
                dist.all_gather_object(found, checkpoints.damage(copy, rank, workers))
                if problem := next(filter(None, found), ""):
                    if self.first:
                        log.warning("checkpoint %s is damaged (%s): going back to the one before",
                                    checkpoint.path, problem)  # fmt: skip
                    continue
                facts = json.loads((copy / checkpoints.FACTS).read_text())
                made_by = facts["made_by"]
                if made_by == checkpoints.shard_layout(self.job.config):
                    self.engine.load_checkpoint(
                        str(copy), tag=checkpoints.TAG, load_module_strict=not self._in_4_bits
                    )
                else:
                    steps = len(facts["history"])
                    shards = copy / checkpoints.TAG
                    universal.restore(self.engine, shards, made_by["stage"], steps)
            self.history = facts["history"]
            self.held_out_before = facts.get("held_out_before")
            return
        folder = newest.path.rpartition("/")[0]
        raise TrainingError(f"every checkpoint in {folder} is damaged: delete it to start anew")

    def publish(self, folder: str, adapter: str = "") -> None:
        """Writes the weights as a Hugging Face folder `<store>/<folder>`; a collective call.

        Adapters are merged into the model there, and written as they are to `<store>/<adapter>`.
        Weights are put together a layer at a time, in the host memory of the first worker.
        """
        parts = self._parts()
        if not self.first or parts is None:
            return
        from transformers import AutoModelForCausalLM, AutoTokenizer

        config, store = self.job.config, self.job.store
        model, revision = self.engine.module.inner[0], config.revision or None
        if adapter and config.lora:
            with tempfile.TemporaryDirectory(prefix="limo_ray-adapter-") as made:
                lm = self.engine.module.lm
                adapters.save(Path(made), lm, parts, config.model, config.revision)
                store.copy_folder_in(Path(made), adapter, last="adapter_config.json")
        if self._in_4_bits:
            model = AutoModelForCausalLM.from_pretrained(
                self.job.model, revision=revision, dtype=models.DTYPES[config.compute.precision]
            )
            parts = adapters.as_saved(parts, model)
        tokenizer = AutoTokenizer.from_pretrained(self.job.model, revision=revision)
        with tempfile.TemporaryDirectory(prefix="limo_ray-model-") as made:
            whole = self._whole(parts)
            models.save_folder(Path(made), model, whole, tokenizer, self.job.template)
            store.copy_folder_in(Path(made), folder, last="config.json")

    def weights(self) -> dict[str, Tensor] | None:
        """The whole model by its own names, in host memory of the first worker; collective."""
        parts = self._parts()
        return None if parts is None else self._whole(parts)

    def _whole(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapters merged into the model's weights; what is tied is there once."""
        if lora := self.job.config.lora:
            parts = adapters.merged(parts, lora.alpha / lora.rank)
        if self.engine.module.inner[0].config.tie_word_embeddings:
            parts.pop("lm_head.weight", None)
        return parts

    def _parts(self) -> dict[str, Tensor] | None:
        """All weights in host memory, adapters apart; on the first worker alone; collective."""
        if self.engine.zero_optimization_partition_weights():
            found = self.engine._zero3_consolidated_16bit_state_dict()
        else:
            found = self.engine.module.state_dict() if self.first else None
        if found is None:
            return None
        return {name.removeprefix("lm."): value.detach().cpu() for name, value in found.items()}


def start(job: TrainingJob, kind: Any = models.LossModel) -> Worker:
    """Loads the model and makes the engine; a collective call, in an open process group.

    `kind`: what the loaded model becomes, a LossModel or a child of it.
    """
    _environment(job.device)
    import deepspeed
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.utils.logging import disable_progress_bar

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)  # of DeepSpeed's calls, once per step
    disable_progress_bar()
    torch.manual_seed(job.config.seed)
    if job.device == "cpu":  # nothing to compile: its only part for CPUs reduces for inference
        deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(
        dist_backend="nccl" if job.device == "gpu" else "gloo", verbose=False
    )
    made = deepspeed_config(job.config, job.device)
    alive = HfDeepSpeedConfig(made) if job.config.zero.stage == 3 else None  # kept while loading
    job.model = model_files.resolve(job.model)
    model = models.load(job.model, job.config, _sharing(job.config), kind)
    del alive
    optimizer = _optimizer(model, job)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=made)
    return Worker(job=job, engine=engine)


def _environment(device: str) -> None:
    """What DeepSpeed reads when it is imported, and where its parts are compiled once.

    Each environment has a folder of its own: in a shared one, two would compile in turns.
    """
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    own = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(model_files.CACHE / "extensions" / own))
    tools = str(Path(sys.executable).parent)  # ninja is there
    if tools not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] += os.pathsep + tools


def _sharing(config: TrainConfig) -> dist.ProcessGroup | None:
    """The group of the workers that share rows with this one; None where nobody does."""
    size = config.compute.sequence_parallel
    if size == 1:
        return None
    world = dist.get_world_size()
    groups = [dist.new_group(list(range(at, at + size))) for at in range(0, world, size)]
    return groups[dist.get_rank() // size]


def _optimizer(model: torch.nn.Module, job: TrainingJob) -> torch.optim.Optimizer:
    settings = job.config.optimizer
    groups = models.decayed(model, settings.weight_decay)
    betas = (settings.beta1, settings.beta2)
    if job.config.zero.offload_optimizer and job.device == "gpu":
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, lr=settings.lr, betas=betas, eps=settings.eps)
    fused = job.device == "gpu"
    return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=fused)


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measured floating-point operations per second of one large product: what to compare with."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
