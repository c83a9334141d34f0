"""Tokens per second, the share of the peak, and memory beside the plan, for several sizes."""

import statistics
import tempfile
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from bench.gpu import models
from bench.gpu.report import result, skipped

GIB = 2**30
STEPS = 4
CHANGED: dict[str, dict[str, Any]] = {
    "offload": {"zero.offload_optimizer": "true"},
    "whole": {"compute.recompute": "false"},
    "full": {"compute.cross_entropy": "full"},
}


def train(device: str, case: str) -> None:
    """One size: `3b-offload` is 3B with the optimizer in host memory."""
    shape, _, kind = case.partition("-")
    name = f"train-{case}"
    folder = Path(tempfile.gettempdir()) / "limo_ray-bench-models"
    changed = CHANGED.get(kind, {})
    if device == "gpu" and (why := models.too_large(folder, shape, changed)):
        skipped(name, why)
        return
    found = models.train(folder, shape, device, STEPS, changed)
    speed = statistics.median(found.tokens_per_s)
    result(name, "training speed", speed, "tokens/s", losses=found.losses)
    share = statistics.median(found.share_of_peak)
    result(name, "share of the measured peak of a matrix product", share, "",
           peak_tflops=round(found.peak_flops / 1e12, 1))  # fmt: skip
    if not found.device_bytes:
        skipped(name, "memory of a GPU beside the plan: no GPU")
        return
    planned = found.plan.needed - found.plan.device.get("reserved", 0.0)
    error = planned / found.device_bytes - 1
    result(name, "memory of the GPU", found.device_bytes / GIB, "GiB", ok=abs(error) < 0.1,
           peer=round(planned / GIB, 2), peer_name="plan",
           allocated=round(found.allocated_bytes / GIB, 2),
           parts={part: round(size / GIB, 2) for part, size in found.plan.device.items()},
           )  # fmt: skip
    result(name, "memory of the host", found.host_bytes / GIB, "GiB",
           peer=round(sum(found.plan.host.values()) / GIB, 2), peer_name="plan")  # fmt: skip


def trl(device: str, case: str) -> None:
    """TRL's SFTTrainer on the same tokens: packed, bfloat16, recomputed.

    Its attention is sdpa over whole rows, so it looks across examples; ours does not.
    """
    name = f"trl-{case}"
    shape, _, liger = case.partition("-")
    for package in ["trl", "liger_kernel"] if liger else ["trl"]:
        if find_spec(package) is None:
            skipped(name, f"{package} is not installed")
            return

    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    folder = Path(tempfile.gettempdir()) / "limo_ray-bench-models"
    model = models.model_folder(folder, shape, device)
    config = models.settings(model, shape, device)
    data = models.examples(config, shape)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    told = SFTConfig(
        output_dir=tempfile.mkdtemp(), max_steps=STEPS, per_device_train_batch_size=1,
        gradient_accumulation_steps=2, packing=True, max_length=config.pack_tokens, bf16=True,
        gradient_checkpointing=True, report_to=[], save_strategy="no", disable_tqdm=True,
        use_liger_kernel=bool(liger), use_cpu=device == "cpu",
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            model, dtype="bfloat16", attn_implementation="sdpa"
        ),
        args=told, callbacks=[Clock()],
        train_dataset=Dataset.from_list([{"input_ids": one.ids.tolist()} for one in data] * STEPS),
    )  # fmt: skip
    trainer.train()
    laps = [b - a for a, b in pairwise(times)]
    tokens = 2 * config.pack_tokens
    memory = {} if device == "cpu" else {"gib": torch.cuda.max_memory_reserved() / GIB}
    result(name, "TRL's SFTTrainer on the same tokens", tokens / statistics.median(laps),
           "tokens/s", **memory)  # fmt: skip
