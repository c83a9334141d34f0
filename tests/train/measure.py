"""Peak memory of one worker of two, beside the plan's figure: see test_memory.py.

python -m tests.train.measure MODEL STAGE PRECISION OFFLOAD    # prints measured and planned bytes
"""

import os
import socket
import subprocess
import sys
import threading
import time

TOKENS = 1024


def run(model: str, stage: str, precision: str, offload: str) -> tuple[float, float]:
    import numpy as np
    import psutil
    import torch

    from limo_ray.core import config as configs
    from limo_ray.storage.store import Store
    from limo_ray.train import memory, worker
    from limo_ray.train.config import TrainConfig
    from limo_ray.train.table import batch_layout
    from limo_ray.train.tokens import Tokens

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    worker._environment("cpu")
    import deepspeed  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    changed = {
        "model": model, "data": "x", "zero.stage": stage, "workers.count": 2,
        "zero.offload_optimizer": offload,
        "workers.device": "cpu", "compute.precision": precision, "compute.recompute": "false",
        "rows.max_tokens": TOKENS, "batch.examples": 2,
    }  # fmt: skip
    config = configs.load(TrainConfig, [f"{key}={value}" for key, value in changed.items()])
    ids = np.arange(TOKENS, dtype=np.int32) % 299 + 1  # without the pad token, whose zeros give inf
    examples = [Tokens(ids=ids, learn=ids >= 0) for _ in range(2)]
    job = worker.TrainingJob(config=config, device="cpu", store=Store(config.store), model=model,
                     template="", train=examples, held_out=[],
                     layout=batch_layout(config, 2), state=None)  # fmt: skip
    process = psutil.Process()
    before = process.memory_info().rss
    peak = [0]

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], process.memory_info().rss - before)
            time.sleep(0.002)

    threading.Thread(target=watch, daemon=True).start()
    made = worker.start(job)
    for _ in range(3):
        made.learn([0, 1])
        norm = made.update(1e-4)
        assert np.isfinite(norm), norm  # or the step is left out
    torch.distributed.barrier()
    plan = memory.estimate(config, "cpu", TOKENS, passes=1)
    return peak[0], plan.needed + plan.host["optimizer states"] / 2  # on CPU in the same memory


if __name__ == "__main__":
    if len(sys.argv) == 5:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command = [sys.executable, "-m", "tests.train.measure", *sys.argv[1:], port]
        started = [subprocess.Popen([*command, rank]) for rank in "10"]
        sys.exit(max(abs(process.wait()) for process in started))
    port, rank = sys.argv[5:]
    os.environ |= {"DS_ACCELERATOR": "cpu", "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    measured, planned = run(*sys.argv[1:5])
    if rank == "0":
        print(measured, planned, flush=True)
