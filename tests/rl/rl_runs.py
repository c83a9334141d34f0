"""Settings of a reinforcement learning of the tiny model, with made-up rollouts."""

import json
from pathlib import Path
from typing import Any


def overrides(folder: Path, **changed: Any) -> list[str]:
    """Arguments of a run in a test's folder; its rollouts come from the scripted engine."""
    settings = {
        "name": "tiny", "store": folder / "store", "model": folder / "model",
        "sources": source(folder / "sums.jsonl", 0, 40), "steps": 3,
        "weights": folder / "weights",
        "held_out.sources": source(folder / "held_out.jsonl", 100, 6),
        "held_out.every_steps": 2, "held_out.attempts": 2,
        "rollouts": "{problems: 4, size: 4, updates: 2}", "loss.kl": 0.05, "choice.probe": 2,
        "sampling.max_tokens": 60,
        "engine": "{kind: scripted, device: cpu, max_model_len: 256, num_cpus: 0.2, "
                  "script: {alpha: 1, beta: 1, tokens: 20, wrong: '-1'}}",
        "sampler.flush_s": 0.3, "pack_tokens": 512, "optimizer.lr": 1e-3, "zero.stage": 1,
        "zero.bucket": 100_000, "compute": "{precision: float32, recompute: false}",
        "workers": "{count: 1, device: cpu, cpus: 0.5}", "checkpoint.every_steps": 1,
    } | changed  # fmt: skip
    return [f"{key}={value}" for key, value in settings.items()]


def source(file: Path, first: int, count: int) -> str:
    """A file of sums, as a list of one source."""
    rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)}
            for n in range(first, first + count)]  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"[{{path: {file}, question: question, answer: answer}}]"
