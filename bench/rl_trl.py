"""Rollouts per second of whole steps: jobs/rl.py beside TRL's GRPOTrainer on its own.

    pip install trl
    python bench/rl_trl.py [--steps 5]

conf/rl/laptop.yaml for both: model, prompts, 8 groups of 8, 96 tokens, temperature, rewards. Ours
draws whole groups of any problem, as TRL does. A step is rollouts, rewards, update and, with us,
the weights' way to the engine; the first of each is left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.core import config as configs
from limo_ray.core.prompts import question_messages
from limo_ray.rl.config import RLConfig
from limo_ray.rl.job import read_data
from limo_ray.storage import model_files
from limo_ray.verify import rewards

ROOT = Path(__file__).parent.parent
PRESET = str(ROOT / "conf/rl/laptop.yaml")
SAME = ["choice={by: uniform, probe: 0, most_tried: 1}", "sampling.loop_count=0",
        "reward.format_reward=0", "held_out.sources=[]"]  # fmt: skip


def ours(steps: int) -> list[dict[str, float]]:
    """Seconds, rollouts and tokens of each step."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "jobs/rl.py", PRESET, *SAME, f"store={store}", f"steps={steps}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(store) / "rl/laptop/metrics.jsonl").read_text().splitlines()
    return [
        {"seconds": row["seconds"], "rollouts": row["rollouts"],
         "tokens": row["tokens"] * row["rollouts"]}
        for row in map(json.loads, lines)
    ]  # fmt: skip


def trl(steps: int) -> list[dict[str, float]]:
    """The same of TRL."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    config = configs.load(RLConfig, [PRESET, *SAME])
    problems, size = config.rollouts.problems, config.rollouts.size
    folder = model_files.resolve(config.model)
    rows = [
        {"prompt": question_messages(each.question, config.system), "answer": each.answer,
         "domain": each.domain}
        for each in read_data(config).problems
    ]  # fmt: skip
    found: list[dict[str, float]] = []
    begun = [0.0]

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            begun[0] = time.perf_counter()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if length := logs.get("completions/mean_length"):
                found.append({"seconds": time.perf_counter() - begun[0],
                              "rollouts": problems * size,
                              "tokens": length * problems * size})  # fmt: skip

    told = GRPOConfig(
        output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=size,
        gradient_accumulation_steps=problems, num_generations=size, beta=0.0,
        max_completion_length=config.sampling.max_tokens, temperature=1.0,
        learning_rate=config.optimizer.lr, lr_scheduler_type="constant", scale_rewards=False,
        loss_type="dapo", bf16=True, use_cpu=True, gradient_checkpointing=False, logging_steps=1,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16"),
        processing_class=AutoTokenizer.from_pretrained(folder), args=told, callbacks=[Clock()],
        reward_funcs=rewards.reward_correct, train_dataset=Dataset.from_list(rows),
    )  # fmt: skip
    trainer.train()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    steps = parser.parse_args().steps
    speed = {}
    for name, run in (("TRL", trl), ("ours", ours)):
        rows = run(steps)[1:]
        each = [row["rollouts"] / row["seconds"] for row in rows]
        tokens = sum(row["tokens"] for row in rows) / sum(row["seconds"] for row in rows)
        speed[name] = statistics.median(each)
        sys.stdout.write(f"{name:5} {speed[name]:6.2f} rollouts/s ({min(each):.2f} to "
                         f"{max(each):.2f}), {tokens:,.0f} tokens/s\n")  # fmt: skip
    sys.stdout.write(f"ours over TRL: {speed['ours'] / speed['TRL']:.2f}\n")


if __name__ == "__main__":
    main()
