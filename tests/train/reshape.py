"""Writes checkpoints in some layouts, is killed, and goes on in others: see test_universal.py.

python -m tests.train.reshape FOLDER    # losses of every way, in FOLDER/losses.out
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from limo_ray.core import config as configs
from limo_ray.storage.store import Store
from limo_ray.train.config import TrainConfig
from tests.train import tiny

SAVED, STEPS = 2, 5  # saved after so many steps of so many
OFFLOAD = {"zero.offload_optimizer": "true"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "1 worker, stage 0": {"workers.count": 1, "zero.stage": 0},
    "1 worker, stage 1": {"workers.count": 1, "zero.stage": 1},
    "1 worker, stage 1, offload": {"workers.count": 1, "zero.stage": 1} | OFFLOAD,
    "1 worker, stage 3": {"workers.count": 1, "zero.stage": 3},
    "2 workers, stage 0": {"workers.count": 2, "zero.stage": 0},
    "2 workers, stage 1": {"workers.count": 2, "zero.stage": 1},
    "2 workers, stage 3": {"workers.count": 2, "zero.stage": 3},
    "2 workers, stage 3, offload": {"workers.count": 2, "zero.stage": 3} | OFFLOAD,
}
PAIRS = [
    ("2 workers, stage 3", "1 worker, stage 1"),
    ("2 workers, stage 1", "1 worker, stage 0"),
    ("2 workers, stage 3, offload", "1 worker, stage 3"),
    ("1 worker, stage 0", "2 workers, stage 3"),
    ("1 worker, stage 3", "2 workers, stage 0"),
    ("1 worker, stage 1, offload", "2 workers, stage 3, offload"),
]


def begin(folder: Path, layout: str) -> tuple[Any, Any]:
    from limo_ray.train.sft import load_data
    from limo_ray.train.table import batch_layout
    from limo_ray.train.worker import TrainingJob, start

    decay = {"optimizer.weight_decay": 0.5}  # of matrices only: the groups must stay apart
    config = configs.load(TrainConfig, tiny.overrides(folder, **LAYOUTS[layout] | decay))
    model, data = load_data(config)
    rows = batch_layout(config, len(data.train))
    job = TrainingJob(
        config=config, device="cpu", store=Store(config.store), model=model, template="",
        train=data.train, held_out=[], layout=rows, state=None,
    )  # fmt: skip
    return start(job), rows.schedule


def learn(worker: Any, schedule: Any, steps: range) -> list[float]:
    losses = []
    for step in steps:
        losses.append(worker.learn(schedule.batch_of(step)))
        worker.update(1e-3)
    return losses


def write(folder: Path, layouts: list[str]) -> None:
    """Saves a checkpoint of each layout, then learns on until it is killed."""
    import torch.distributed as dist

    for place, layout in enumerate(layouts):
        worker, schedule = begin(folder, layout)
        losses = learn(worker, schedule, range(SAVED))
        worker.engine.save_checkpoint(str(folder / layout), tag="state")
        if layout == "1 worker, stage 0":
            losses += learn(worker, schedule, range(SAVED, STEPS))
            (folder / "undisturbed.json").write_text(json.dumps(losses))
        dist.barrier()
        if place == len(layouts) - 1:
            (folder / f"saved_{dist.get_world_size()}").touch()
            while True:
                learn(worker, schedule, range(SAVED, STEPS))


def read(folder: Path, pairs: list[tuple[str, str]]) -> None:
    import torch.distributed as dist

    from limo_ray.train import universal

    for made, layout in pairs:
        worker, schedule = begin(folder, layout)
        stage = LAYOUTS[made]["zero.stage"]
        universal.restore(worker.engine, folder / made / "state", stage, SAVED)
        losses = learn(worker, schedule, range(SAVED, STEPS))
        if dist.get_rank() == 0:
            (folder / f"{made} to {layout}.json").write_text(json.dumps(losses))
        worker.engine.destroy()


def of(workers: int, layouts: list[Any], place: int = 0) -> list[Any]:
    """Those whose layout (at `place` of a pair) has so many workers."""
    return [
        one
        for one in layouts
        if LAYOUTS[one if isinstance(one, str) else one[place]]["workers.count"] == workers
    ]


def start_all(folder: Path, role: str) -> dict[int, list[subprocess.Popen[bytes]]]:
    """Both numbers of workers at once."""
    started: dict[int, list[subprocess.Popen[bytes]]] = {}
    for workers in (1, 2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command = [sys.executable, "-m", "tests.train.reshape", str(folder), role, port]
        started[workers] = [
            subprocess.Popen([*command, str(workers), str(rank)]) for rank in range(workers)
        ]
    return started


def main(folder: Path) -> None:
    for workers, processes in start_all(folder, "write").items():
        while not (folder / f"saved_{workers}").exists():
            if any(process.poll() is not None for process in processes):
                sys.exit("a writer has ended")
            time.sleep(0.05)
        for process in processes:
            process.kill()
    readers = [process for group in start_all(folder, "read").values() for process in group]
    if any(code for code in [process.wait() for process in readers]):
        sys.exit("a reader failed")
    found = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}
    (folder / "losses.out").write_text(json.dumps(found))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if len(sys.argv) == 2:
        main(place)
    else:
        role, port, workers, rank = sys.argv[2:]
        os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": rank, "LOCAL_RANK": rank,
                       "WORLD_SIZE": workers, "LOCAL_WORLD_SIZE": workers,
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        import torch

        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo")
        if role == "write":
            write(place, of(int(workers), sorted({made for made, _ in PAIRS})))
        else:
            read(place, of(int(workers), PAIRS, 1))
