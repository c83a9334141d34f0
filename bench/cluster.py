"""The sampler on a cluster of simulated GPU nodes: are all slots busy, and does it scale?

    python bench/cluster.py [--nodes 8] [--slots 64] [--problems 1000] [--strong]
    python bench/cluster.py --memory 100000 1000000

Every node is a raylet of its own on this machine with one (pretended) GPU and one replica of the
scripted engine; scheduling, transport, verdicts and the attempt log are real. Completions have
log-normal lengths of 4,000 tokens in the mean at 30 tokens/s and sequence, 40 times as fast as on
a GPU, so that two cores can do the rest of eight nodes' work. Each node gets the same number of
problems; the tail begins when the last problem is in a sampler's hands. The rule is
the weak stage's (4 attempts, keep the unsolved), under which a problem never has more than one draw
in flight, or, with --strong, the strong stage's.

With --memory the driver's peak memory is measured for pools of these sizes, one attempt each.
"""

import argparse
import json
import logging
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["RAY_AUTH_MODE"] = "token"  # before Ray is imported, which reads it
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import psutil
import pyarrow as pa
import ray
from ray.cluster_utils import Cluster

from limo_ray.core.records import POOL, order, problem_id
from limo_ray.curate import difficulty
from limo_ray.curate.config import CurateConfig, DifficultyConfig, StageConfig
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.sampling import ray_data_settings
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.ray_stage import sample, start_coordinator
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store
from tests.sampling.sums import pool

TOKENS_PER_S = 30


def start(nodes: int, folder: str) -> Cluster:
    """A head without GPUs, where the driver is, and nodes with one each."""
    os.environ["RAY_TMPDIR"] = folder
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    cluster = Cluster()
    cluster.add_node(num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=100 * 2**20)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    ray_data_settings.configure()
    return cluster


def stop(cluster: Cluster) -> None:
    ray.shutdown()
    cluster.shutdown()


class Watch:
    """Follows the samplers' reports: busy slots and finished tokens over time."""

    def __init__(self, coordinator: Any, total: int, nodes: int, slots: int) -> None:
        self.coordinator, self.total, self.nodes, self.slots = coordinator, total, nodes, slots
        self.seen: list[tuple[float, int, int]] = []  # time, busy slots, tokens; before the tail
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stop.wait(0.5):
            workers = ray.get(self.coordinator.snapshot.remote()).values()
            if sum(worker["engine"] for worker in workers) < self.nodes:
                continue  # not all of them are up
            stages = [worker["stages"]["strong"] for worker in workers]
            taken = sum(worker["active"] for worker in workers)
            taken += sum(sum(stage["decisions"].values()) for stage in stages)
            if taken >= self.total:
                return
            busy = sum(min(worker["open"], self.slots) for worker in workers)
            tokens = sum(stage["tokens"].get("completion", 0) for stage in stages)
            self.seen.append((time.time(), busy, tokens))

    def ended(self) -> tuple[float, float, float]:
        """Share of slots busy, tokens/s and seconds, from when all are up until the tail."""
        self._stop.set()
        self._thread.join()
        seen = self.seen[4:]  # the first reports of engines that just started
        assert len(seen) > 10, "too few problems: the tail begins before all nodes are up"
        share = statistics.mean(busy for _, busy, _ in seen) / (self.nodes * self.slots)
        seconds = seen[-1][0] - seen[0][0]
        return share, (seen[-1][2] - seen[0][2]) / seconds, seconds


WEAK = StopRule(budget=4, keep_min=0, keep_max=0)
STRONG = StopRule(budget=32, keep_min=1, keep_max=3)


def busy(
    nodes: int, slots: int, problems: int, rule: StopRule, script: dict[str, float], folder: str
) -> float:
    """Runs `nodes` engines on `problems` each; prints what they did, returns tokens/s."""
    cluster = start(nodes, folder)
    engine = EngineConfig(
        model="scripted", kind="scripted", device="gpu", num_cpus=0.5, max_num_seqs=slots,
        min_replicas=nodes, max_replicas=nodes, script=script,
    )  # fmt: skip
    stage = Stage(
        name="strong", rule=rule,
        sampling=SamplingConfig(max_tokens=32768), fingerprint="0" * 16,
    )  # fmt: skip
    coordinator = start_coordinator()
    store = Store(f"{folder}/store-{nodes}")
    rows = pool(problems * nodes)
    data = sample(
        ray.data.from_arrow(rows), engine, [stage], store, system="", coordinator=coordinator,
        config=SamplerConfig(), total=len(rows),
    )  # fmt: skip
    watch = Watch(coordinator, len(rows), nodes, slots)
    started = time.time()
    cpu = psutil.cpu_times()
    decided = sum(
        len(batch) for batch in data.iter_batches(batch_size=None, batch_format="pyarrow")
    )
    spent, after = time.time() - started, psutil.cpu_times()
    used = (after.user + after.system + after.nice - cpu.user - cpu.system - cpu.nice) / spent
    assert decided == len(rows)
    share, rate, seconds = watch.ended()
    attempts = sum(
        sum(worker["stages"]["strong"]["verdicts"].values())
        for worker in ray.get(coordinator.snapshot.remote()).values()
    )
    print(
        f"{nodes} node(s): {len(rows):,} problems, {attempts:,} attempts in {spent:.0f} s; "
        f"{share:.1%} of {nodes * slots} slots busy and {rate:,.0f} tokens/s during the "
        f"{seconds:.0f} s until the tail; {used:.1f} cores of this machine in use",
        flush=True,
    )
    stop(cluster)
    return rate


def memory(problems: int) -> None:
    """Child process: difficulty sampling of so many problems as a curation does it."""
    folder = tempfile.mkdtemp(prefix="mem-")
    store = Store(f"{folder}/store")
    part = 50_000
    for first in range(0, problems, part):
        rows = [
            {
                "id": problem_id(str(number)), "question": f"What is {number} + {number}? " * 8,
                "answer": str(2 * number), "source": "sums", "domain": "math", "metadata": "{}",
                "file": "sums.jsonl", "line": number, "stage": None, "reason": None,
                "evidence": None,
            }
            for number in range(first, min(problems, first + part))
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=POOL)
        orders = pa.array([order(0, row["id"]) for row in rows], pa.int64())
        store.write_table(f"pool/part-{first:09d}.parquet", table.append_column("order", orders))
        del rows, table, orders
    cluster = start(2, folder)
    engine = EngineConfig(
        model="scripted", kind="scripted", device="gpu", num_cpus=0.5, max_num_seqs=256,
        min_replicas=2, max_replicas=2, script={"tokens": 40},
    )  # fmt: skip
    one = StageConfig(
        engine="scripted", sampling=SamplingConfig(max_tokens=500),
        rule=StopRule(budget=1, keep_min=0, keep_max=0),
    )  # fmt: skip
    config = CurateConfig(
        sources=[],
        engines={"scripted": engine},
        difficulty=DifficultyConfig(strong=one),
        sampler=SamplerConfig(flush_s=0.3),
    )
    me, seen = psutil.Process(), []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            seen.append(me.memory_info().rss)

    threading.Thread(target=watch, daemon=True).start()
    started, before = time.time(), me.memory_info().rss
    difficulty.sample_pool(store.within("pool"), store.within("run"), store, config, "gpu")
    done.set()
    spent = time.time() - started
    print(
        json.dumps({"problems": problems, "seconds": spent, "before": before, "peak": max(seen)}),
        flush=True,
    )
    stop(cluster)
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--problems", type=int, default=1000, help="per node")
    parser.add_argument("--strong", action="store_true", help="32 attempts, keep 1 to 3 correct")
    parser.add_argument("--speed-up", type=float, default=40, help="of the pretended GPUs")
    parser.add_argument("--memory", type=int, nargs="+", help="pool sizes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        memory(arguments.memory[0])
        return
    if arguments.memory:
        for size in arguments.memory:
            command = [sys.executable, __file__, "--child", "--memory", str(size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.strip().splitlines()[-1])
            print(
                f"{size:9,} problems: {found['seconds']:.0f} s; the driver's memory was "
                f"{found['before'] / 2**20:.0f} MiB before and {found['peak'] / 2**20:.0f} MiB at "
                "its peak",
                flush=True,
            )
        return
    folder = tempfile.mkdtemp(prefix="nodes-")
    rule = STRONG if arguments.strong else WEAK
    pace = 1 / TOKENS_PER_S / arguments.speed_up
    script = {"tokens": 4000, "sigma": 1.0, "seconds_per_token": pace}
    one = busy(1, arguments.slots, arguments.problems, rule, script, folder)
    many = busy(arguments.nodes, arguments.slots, arguments.problems, rule, script, folder)
    print(f"{arguments.nodes} nodes draw {many / one:.2f} times the tokens/s of one")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
