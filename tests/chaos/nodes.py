"""A Ray cluster of several nodes on this machine, whose processes can be found and killed."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import psutil

from tests.processes import kill

ROOT = Path(__file__).parent.parent.parent
SYSTEM = {
    # a lost node is noticed in a second or two, not in half a minute
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class Nodes:
    """A head without samplers, as a CPU-only head has none, and `count - 1` nodes with one each."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.cluster: Any = None

    def start(self) -> None:
        from ray.cluster_utils import Cluster

        # Ray's notes of a running cluster are for this one's own processes alone
        os.environ["RAY_TMPDIR"] = str(self.folder.parent)  # Ray adds /ray
        os.environ["PYTHONPATH"] = str(ROOT)  # of the workers too
        self.cluster = Cluster()
        self.cluster.add_node(
            num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False,
            _system_config=SYSTEM, temp_dir=str(self.folder),
        )  # fmt: skip
        for _ in range(self.count - 1):
            self.add()

    def add(self) -> None:
        self.cluster.add_node(
            num_cpus=1, resources={"sampler": 1}, object_store_memory=100 * 2**20,
            temp_dir=str(self.folder),
        )  # fmt: skip

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def workers(self) -> list[psutil.Process]:
        """Ray's worker processes on all nodes, in the order of their start."""
        found = []
        for node in [self.cluster.head_node, *self.cluster.worker_nodes]:
            for process in _family(node)[1:]:
                with contextlib.suppress(psutil.Error, IndexError):
                    if process.cmdline()[0].startswith("ray::"):
                        found.append(process)
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def lose_node(self, number: int) -> list[int]:
        """Kills everything on a node at once, as a machine that goes away; returns the pids."""
        nodes = sorted(self.cluster.worker_nodes, key=lambda node: node.node_id)
        node = nodes[number % len(nodes)]
        family = _kill(_family(node))
        self.cluster.remove_node(node, allow_graceful=False)
        return family

    def drain_node(self, number: int, seconds: float) -> str:
        """Tells Ray that a node goes away in so many seconds; returns the node's id."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        nodes = sorted(self.cluster.worker_nodes, key=lambda node: node.node_id)
        node = nodes[number % len(nodes)]
        deadline = int((time.time() + seconds) * 1000)
        reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
        accepted, why = GcsClient(address=self.address).drain_node(
            node.node_id, reason, "chaos", deadline
        )
        assert accepted, why
        return str(node.node_id)

    def stop(self) -> list[int]:
        """Kills all nodes, the head with them; returns the pids."""
        if self.cluster is None:
            return []
        nodes = [self.cluster.head_node, *self.cluster.worker_nodes]
        killed = _kill([process for node in nodes for process in _family(node)])
        with contextlib.suppress(Exception):  # Ray finds its processes gone
            self.cluster.shutdown()
        self.cluster = None
        return killed


def _family(node: Any) -> list[psutil.Process]:
    """A node's processes: the raylet first, then all that descends from it."""
    found = []
    kinds = sorted(node.all_processes, key=lambda kind: kind != "raylet")
    for kind in kinds:
        for info in node.all_processes[kind]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
    return found


def _kill(processes: list[psutil.Process]) -> list[int]:
    kill(processes)
    return [process.pid for process in processes]
