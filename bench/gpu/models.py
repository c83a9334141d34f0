"""Models with random weights, made on the spot, and steps of training on them."""

import gc
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limo_ray.core import config as configs
from limo_ray.storage.store import Store
from limo_ray.train import memory
from limo_ray.train.config import TrainConfig
from limo_ray.train.loop import Pace
from limo_ray.train.table import Layout, batch_layout
from limo_ray.train.tokens import Tokens
from limo_ray.train.worker import TrainingJob, Worker, start

# Qwen2.5's shapes; "tiny" has their make-up at toy size
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936},
    "3b": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
           "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
           "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
           "tie_word_embeddings": False},
}  # fmt: skip
ENVIRONMENT = {
    "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
}  # fmt: skip


def model_config(shape: str, **changed: Any) -> Any:
    from transformers import Qwen2Config

    settings = {"tie_word_embeddings": True, "max_position_embeddings": 32768,
                "use_sliding_window": False, "rms_norm_eps": 1e-6}  # fmt: skip
    return Qwen2Config(**settings | SHAPES[shape] | changed)


def made(shape: str, where: str) -> Any:
    """A model in bfloat16 on `where` (cuda, cpu)."""
    from transformers import Qwen2ForCausalLM

    with torch.device(where):
        return Qwen2ForCausalLM._from_config(model_config(shape), dtype=torch.bfloat16)


def model_folder(folder: Path, shape: str, device: str) -> Path:
    """Random weights as a Hugging Face folder, made where there is room: on the GPU, if any."""
    if not (folder / shape / "config.json").exists():
        model = made(shape, "cuda" if device == "gpu" else "cpu")
        model.save_pretrained(folder / shape)
        del model
        gc.collect()
        if device == "gpu":
            torch.cuda.empty_cache()
    return folder / shape


def settings(model: Path, shape: str, device: str, **changed: Any) -> TrainConfig:
    """One worker at 16,384 tokens a row, or at toy size."""
    tokens = 256 if shape == "tiny" else 16384
    total = torch.cuda.mem_get_info()[1] / 2**30 if device == "gpu" else 0
    arguments = {
        "model": model, "data": "x", "store": model.parent / "store", "workers.device": device,
        "workers.count": 1, "workers.per_node": 1, "rows.max_tokens": tokens,
        "batch.examples": 8, "batch.pack_tokens": tokens, "workers.gpu_gib": total,
        "optimizer.epochs": 1000,
    } | changed  # fmt: skip
    return configs.load(TrainConfig, [f"{key}={value}" for key, value in arguments.items()])


def examples(config: TrainConfig, shape: str, count: int = 8, length: int = 0) -> list[Tokens]:
    """Random tokens, each example a quarter of a row unless `length` is given."""
    draw = np.random.default_rng(0)
    size = length or config.pack_tokens // 4
    ids = [
        draw.integers(1, SHAPES[shape]["vocab_size"], size, dtype=np.int32) for _ in range(count)
    ]
    return [Tokens(ids=one, learn=np.arange(size) >= size // 8) for one in ids]


def too_large(folder: Path, shape: str, changed: dict[str, Any]) -> str:
    """Why the plan says that a training does not fit this machine, or an empty text."""
    import psutil

    model = folder / shape
    if not (model / "config.json").exists():  # no weights are needed for a plan
        model = folder / f"{shape}-config"
        model_config(shape).save_pretrained(model)
    config = settings(model, shape, "gpu", **changed)
    plan = memory.estimate(config, "gpu", config.pack_tokens)
    # a virtual machine whose memory grows as it is used says too little
    host = float(os.environ.get("BENCH_HOST_GIB", 0)) * 2**30 or psutil.virtual_memory().total
    for place, needed, room in (
        ("the GPU", plan.needed, plan.device_room),
        ("the host", sum(plan.host.values()), host),
    ):
        if needed > room:
            return f"needs {needed / 2**30:.0f} GiB of {place}, which has {room / 2**30:.0f}"
    return ""


def layout(config: TrainConfig, count: int) -> Layout:
    return batch_layout(config, count)


@dataclass
class Trained:
    """Steps of training: the first is warm-up, and left out of speed and memory."""

    plan: memory.MemoryEstimate
    losses: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    share_of_peak: list[float] = field(default_factory=list)
    peak_flops: float = 0.0
    device_bytes: int = 0
    """Reserved by torch at its top; 0 on CPU."""
    allocated_bytes: int = 0
    """Of these, in use."""
    host_bytes: int = 0


def train(
    folder: Path, shape: str, device: str, steps: int, changed: dict[str, Any], lr: float = 1e-5
) -> Trained:
    """Steps of one worker on a model of a shape, as a training makes them, without Ray."""
    import psutil

    os.environ.update(ENVIRONMENT)
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        kind = "nccl" if device == "gpu" else "gloo"
        torch.distributed.init_process_group(kind, store=store, rank=0, world_size=1)
    model = model_folder(folder, shape, device)
    config = settings(model, shape, device, **changed)
    data = examples(config, shape)
    chosen = list(range(len(data)))
    passes = len(layout(config, len(data)).rows(data, chosen)[0])
    found = Trained(plan=memory.estimate(config, device, config.pack_tokens, passes))
    job = TrainingJob(
        config=config, device=device, store=Store(config.store), model=str(model), template="",
        train=data, held_out=[], layout=layout(config, len(data)), state=None,
    )  # fmt: skip
    worker = start(job)
    pace = Pace(worker)
    found.peak_flops = pace.peak
    for number in range(steps):
        if device == "gpu" and number == 1:
            torch.cuda.reset_peak_memory_stats()
        pace.skip()
        found.losses.append(worker.learn(chosen))
        worker.update(lr)
        if device == "gpu":
            torch.cuda.synchronize()
        lap = pace.lap(chosen)
        if number:
            found.tokens_per_s.append(lap["tokens_per_s"])
            found.share_of_peak.append(lap["share_of_peak"])
    if device == "gpu":
        found.device_bytes = torch.cuda.max_memory_reserved()
        found.allocated_bytes = torch.cuda.max_memory_allocated()
    found.host_bytes = psutil.Process().memory_info().rss
    _end(worker, device)
    return found


def _end(worker: Worker, device: str) -> None:
    worker.engine.destroy()
    gc.collect()
    if device == "gpu":
        torch.cuda.empty_cache()
