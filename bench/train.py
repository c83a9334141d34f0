"""Training speed and losses beside TRL's SFTTrainer: same model, tokens, precision and cores.

    python bench/train.py [--data store/runs/laptop] [--steps 6] [--rounds 3] [--threads 2]

Both train SmolLM2-135M in float32 on the same encoded examples, with the same learned tokens, in
the same order, one process, AdamW. TRL runs in its default setting (padded rows of 8, activation
checkpointing), and like for like: without checkpointing, padded and packed. They take turns, a
round each, every turn in a process of its own with two warm-up steps. Printed are the medians of
tokens/s without padding, of the ratios within a round, and the losses over the same batches.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch.utils.data import SequentialSampler

from limo_ray.core import config as configs
from limo_ray.core.console import say
from limo_ray.storage import model_files
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig
from limo_ray.train.sft import load_data
from limo_ray.train.table import Layout, batch_layout
from limo_ray.train.tokens import Tokens
from limo_ray.train.worker import TrainingJob, start

WARM = 2
BATCH = 8
ROOM = 1024
LR = 2e-5
Result = tuple[float, list[float]]  # tokens/s without padding, losses


def config(data: str, steps: int, *changed: str) -> TrainConfig:
    return configs.load(
        TrainConfig,
        [f"model={model_files.PACKAGED}", f"data={data}", "workers.count=1", "workers.device=cpu",
         f"batch.examples={BATCH}", f"rows.max_tokens={ROOM}", "zero.stage=0", "optimizer.clip=1",
         "compute.precision=float32", "compute.recompute=false", "optimizer.epochs=1000",
         f"optimizer.lr={LR}", f"optimizer.max_steps={steps}", *changed],
    )  # fmt: skip


def ours(settings: TrainConfig, examples: list[Tokens], layout: Layout, steps: int) -> Result:
    os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    job = TrainingJob(
        config=settings, device="cpu", store=Store(settings.store),
        model=model_files.resolve(settings.model), template="", train=examples, held_out=[],
        layout=layout, state=None,
    )  # fmt: skip
    worker = start(job)
    losses, tokens = [], 0
    begun = time.perf_counter()
    for step in range(steps):
        if step == WARM:
            begun, tokens = time.perf_counter(), 0
        chosen = layout.schedule.batch_of(step)
        losses.append(worker.learn(chosen))
        worker.update(LR)
        tokens += sum(len(examples[one]) for one in chosen)
    seconds = time.perf_counter() - begun
    torch.distributed.destroy_process_group()
    return tokens / seconds, losses


def trl(examples: list[Tokens], order: list[int], steps: int, **settings: Any) -> Result:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        times: list[float] = []  # noqa: RUF012

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())

    class InOrder(SFTTrainer):
        seen: list[int] = []  # noqa: RUF012

        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            mask = inputs.get("attention_mask")
            ids = inputs["input_ids"]
            self.seen.append(int(mask.sum()) if mask is not None else ids.numel())
            return super().training_step(model, inputs, *rest)

    folder = model_files.resolve(model_files.PACKAGED)
    chosen = [examples[one] for one in order]
    rows = [{"input_ids": one.ids.tolist(), "completion_mask": one.learn.astype(int).tolist()}
            for one in chosen]  # fmt: skip
    clock = Clock()
    clock.times.clear()
    InOrder.seen.clear()
    with tempfile.TemporaryDirectory() as out:
        told = SFTConfig(
            output_dir=out, max_steps=steps, learning_rate=LR, lr_scheduler_type="constant",
            adam_beta2=0.95, weight_decay=0.0, max_grad_norm=1.0, logging_steps=1, report_to=[],
            save_strategy="no", use_cpu=True, bf16=False, completion_only_loss=True,
            max_length=ROOM, disable_tqdm=True, dataset_num_proc=None, **settings,
        )  # fmt: skip
        trainer = InOrder(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            args=told, train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    seconds = clock.times[-1] - clock.times[WARM - 1]
    return sum(InOrder.seen[WARM:]) / seconds, losses


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="store/runs/laptop")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turn", help="one system, in this process; its result goes to --out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = options.steps + WARM
    packed = config(options.data, steps)
    padded = config(options.data, steps, "batch.packing=false", f"batch.micro_examples={BATCH}")
    _, data = load_data(packed)
    examples = data.train
    packed_layout, padded_layout = (batch_layout(each, len(examples)) for each in (packed, padded))
    order = [one for step in range(steps) for one in packed_layout.schedule.batch_of(step)]
    plain = {"per_device_train_batch_size": BATCH, "gradient_checkpointing": False}
    packs = {"per_device_train_batch_size": 1, "gradient_checkpointing": False, "packing": True}
    systems = {
        "TRL, default": lambda: trl(examples, order, steps),
        "TRL, padded": lambda: trl(examples, order, steps, **plain),
        "TRL, packed": lambda: trl(examples, order * 2, steps, **packs),
        "ours, padded": lambda: ours(padded, examples, padded_layout, steps),
        "ours, packed": lambda: ours(packed, examples, packed_layout, steps),
    }
    if options.turn:
        options.out.write_text(json.dumps(systems[options.turn]()))
        return
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    losses: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name in systems:
            speed, losses[name] = turn(name)
            speeds[name].append(speed)
    lengths = [len(one) for one in examples]
    say(f"{len(examples)} examples of {min(lengths)} to {max(lengths)} tokens, batches of {BATCH}")
    say(f"{options.steps} steps, {options.rounds} round(s), {options.threads} thread(s)")
    for name, found in speeds.items():
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        say(f"{name:<13} {statistics.median(found):8,.0f} tokens/s ({spread})")
    for ahead, behind in (("ours, packed", "TRL, default"), ("ours, packed", "TRL, packed"),
                          ("ours, padded", "TRL, padded")):  # fmt: skip
        ratios = [a / b for a, b in zip(speeds[ahead], speeds[behind], strict=True)]
        say(f"{ahead} over {behind}: {statistics.median(ratios):.2f}")
    say("loss over the same batches:")
    for name in ("TRL, padded", "ours, padded", "ours, packed"):
        say(f"{name:<13} " + " ".join(f"{loss:.4f}" for loss in losses[name]))
    pairs = zip(losses["TRL, padded"], losses["ours, packed"], strict=True)
    say(f"largest difference, ours packed and TRL padded: {max(abs(a - b) for a, b in pairs):.4f}")


def turn(name: str) -> Result:
    """One system's turn in a process of its own: TRL must not find our process group."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, *sys.argv, "--turn", name, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
        speed, losses = json.loads(out.read_text())
    return speed, losses


if __name__ == "__main__":
    main()
