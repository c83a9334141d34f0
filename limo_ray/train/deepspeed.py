"""DeepSpeed's config for ours, and the learning rate of each step. Pure."""

import math
from typing import Any

from limo_ray.train.config import OptimizerConfig, TrainConfig


def deepspeed_config(config: TrainConfig, device: str) -> dict[str, Any]:
    """The dictionary that `deepspeed.initialize` takes, for gpu or cpu workers.

    Accumulation boundaries are set by our loop, since packed batches differ in their number of
    passes; and the loss is divided by ours, so DeepSpeed's own division by steps is never used.
    """
    zero = config.zero
    optimizer = config.optimizer
    section: dict[str, Any] = {
        "stage": zero.stage,
        "reduce_bucket_size": zero.bucket,
        "overlap_comm": device == "gpu",
        "contiguous_gradients": True,
    }
    if zero.stage in (1, 2):
        section["allgather_bucket_size"] = zero.bucket
    if zero.stage == 3:
        section |= {
            "stage3_prefetch_bucket_size": zero.bucket,
            "stage3_max_live_parameters": zero.bucket,
            "stage3_max_reuse_distance": zero.bucket,
            "stage3_param_persistence_threshold": 10_000,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    pinned = device == "gpu"
    if zero.offload_optimizer:
        section["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
    if zero.offload_parameters:
        section["offload_param"] = {"device": "cpu", "pin_memory": pinned}
    made: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 2,  # "more than one may come": see above
        "gradient_clipping": optimizer.clip,
        "steps_per_print": 10**9,
        "zero_optimization": section,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": zero.offload_optimizer and device == "gpu",
        "wall_clock_breakdown": False,
    }
    if config.compute.precision == "bfloat16":
        made["bf16"] = {"enabled": True}
        if zero.states == "bfloat16":
            made["bf16"] |= {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    return made


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Of one step (from 0) of `steps`: warm-up, then the schedule down to lr x min_lr."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    share = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}
    low = 1.0 if config.schedule == "constant" else config.min_lr
    return config.lr * (low + (1 - low) * share[config.schedule])
