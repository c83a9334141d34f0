"""Runs steps of many layouts in one process group and writes their losses: see test_equal.py.

python -m tests.train.steps FOLDER WORKERS    # starts the workers itself
python -m tests.train.steps FOLDER WORKERS RANK PORT
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from limo_ray.core import config as configs
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig
from tests.train import tiny

STEPS = 3
ONE: dict[str, dict[str, object]] = {
    "one worker": {},
    "accumulation 1": {"batch.packing": "false", "batch.micro_examples": 8},
    "accumulation 4": {"batch.packing": "false", "batch.micro_examples": 2},
    "full logits": {"compute.cross_entropy": "full"},
    "small chunks": {"compute.chunk": 7},
    "recomputed": {"compute.recompute": "true"},
    "offloaded activations": {"compute.recompute": "true", "compute.offload_activations": "true"},
    "stage 0": {"zero.stage": 0},
}
FOUR_BITS = "adapters, 4 bits"
if find_spec("bitsandbytes"):
    ONE[FOUR_BITS] = {"lora": "{bits: 4}", "zero.stage": 1, "compute.recompute": "true"}
TWO: dict[str, dict[str, object]] = {
    "two workers": {},
    "two, not packed": {"batch.packing": "false"},
    "two, stage 0": {"zero.stage": 0},
    "two, stage 1": {"zero.stage": 1},
    "two, stage 2": {"zero.stage": 2},
    "two, recomputed": {"compute.recompute": "true"},
    "two, offloaded optimizer": {"zero.offload_optimizer": "true"},
    "two, offloaded parameters": {
        "zero.offload_optimizer": "true",
        "zero.offload_parameters": "true",
    },
    "two share each row": {"compute.sequence_parallel": 2},
    "two share each padded row": {"compute.sequence_parallel": 2, "batch.packing": "false"},
    "adapters": {"lora": "{modules: [q_proj, v_proj]}"},
    "adapters, stage 1": {"lora": "{modules: [q_proj, v_proj]}", "zero.stage": 1},
    "bfloat16": {"compute.precision": "bfloat16"},
    "bfloat16, stage 1": {"compute.precision": "bfloat16", "zero.stage": 1},
}


def run(folder: Path, workers: int) -> dict[str, list[list[float]]]:
    """All variants in this process group: for each its (loss, gradient norm) by step."""
    from limo_ray.train.sft import load_data
    from limo_ray.train.table import batch_layout
    from limo_ray.train.worker import TrainingJob, start

    found = {}
    for name, changed in (ONE if workers == 1 else TWO).items():
        arguments = tiny.overrides(folder, **{"workers.count": workers} | changed)
        config = configs.load(TrainConfig, arguments)
        model, data = load_data(config)
        layout = batch_layout(config, len(data.train))
        job = TrainingJob(config=config, device="cpu", store=Store(config.store), model=model,
                          template="", train=data.train, held_out=[], layout=layout,
                          state=None)  # fmt: skip
        worker = start(job)
        rows = []
        for step in range(STEPS):
            loss = worker.learn(layout.schedule.batch_of(step))
            rows.append([loss, worker.update(config.optimizer.lr)])
        found[name] = rows
        if config.lora:
            worker.publish(f"models/{name}", f"adapters/{name}")
        worker.engine.destroy()
    return found


def start_all(folder: Path, workers: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.train.steps", str(folder), str(workers)]
    started = [subprocess.Popen([*command, str(rank), str(port)]) for rank in range(workers)]
    codes = [process.wait() for process in started]
    if any(codes):
        sys.exit(1)


if __name__ == "__main__":
    place, count = Path(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) == 3:
        start_all(place, count)
    else:
        rank = sys.argv[3]
        os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": rank, "LOCAL_RANK": rank,
                       "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[4]}  # fmt: skip
        import torch

        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo")
        losses = run(place, count)
        if rank == "0":
            (place / f"losses_{count}.json").write_text(json.dumps(losses))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
