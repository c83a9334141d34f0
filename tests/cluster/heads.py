"""A real Ray head in processes of its own, for tests of jobs that are submitted to a cluster."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
)

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
START_S = 180  # on a busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@dataclass(slots=True)
class Head:
    gcs: str
    """host:port, what RAY_ADDRESS of a driver is."""
    dashboard: str
    """URL that `ray job submit` talks to."""
    env: dict[str, str]
    """Environment that drivers and clients need."""
    temp: str
    """Folder that holds all of it."""

    def nodes(self) -> dict[str, str]:
        """The label `role` of each node that is alive, the head's left out."""
        url = f"{self.dashboard}/api/v0/nodes?detail=1"
        token = {"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(url, headers=token)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]["result"]
        return {
            node["node_id"]: node["labels"].get("role", "")
            for node in found
            if node["state"] == "ALIVE" and not node["is_head_node"]
        }

    def run(self, *command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; `env` goes over the head's, an empty value takes one out."""
        given = {name: value for name, value in (self.env | env).items() if value}
        return subprocess.run(
            command, cwd=cwd, env=given, capture_output=True, text=True, timeout=240, check=False
        )


def fake_nodes(gcs: str, node_types: dict[str, Any], idle_minutes: float) -> dict[str, Any]:
    """A config for Ray's autoscaler whose nodes are raylets on this machine."""
    return {
        "cluster_name": "fake",
        "max_workers": 8,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **{name: node | {"node_config": {}} for name, node in node_types.items()},
        },
        "upscaling_speed": 10,
        "auth": {}, "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [], "file_mounts": {},
        "cluster_synced_files": [], "file_mounts_sync_continuously": False,
        "initialization_commands": [], "rsync_exclude": [], "rsync_filter": [],
    }  # fmt: skip


@contextmanager
def head(
    *options: str, node_types: dict[str, Any] | None = None, idle_minutes: float = 0.1, **env: str
) -> Iterator[Head]:
    """`ray start --head` on free ports and in a temporary folder; all it started ends with it.

    Args:
        options: further options of `ray start`.
        node_types: what Ray's autoscaler may start, in the form of a cluster.yaml.
        idle_minutes: after which it ends a node.
        env: further environment of the head and of what `Head.run` starts.
    """
    gcs, dashboard = free_port(), free_port()
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    given |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    given |= {"RAY_raylet_start_wait_time_s": "150"}
    given |= {"PATH": f"{BIN}:{given['PATH']}"} | env
    # socket paths have a limit of 107 bytes: not pytest's long folder
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp", ignore_cleanup_errors=True) as temp:
        command = [
            f"{BIN}/ray", "start", "--head", "--block", f"--node-ip-address={HOST}",
            f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-host={HOST}",
            f"--ray-client-server-port={free_port()}", "--min-worker-port=0",
            "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}",
            f"--object-store-memory={200 * 2**20}", f"--temp-dir={temp}/ray", *options,
        ]  # fmt: skip
        scales = {}
        if node_types is not None:
            config = Path(temp) / "autoscaling.yaml"
            config.write_text(yaml.safe_dump(fake_nodes(f"{HOST}:{gcs}", node_types, idle_minutes)))
            command += ["--num-cpus=0", f"--autoscaling-config={config}"]
            scales = {
                "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1",
                "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID, "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            }  # fmt: skip
        log = Path(temp) / "head.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env=given | scales, start_new_session=True
            )
        try:
            _wait(process, log, dashboard)
            yield Head(f"{HOST}:{gcs}", f"http://{HOST}:{dashboard}", given, temp)
        finally:
            _end(process, temp)


def _wait(process: subprocess.Popen[bytes], log: Path, dashboard: int) -> None:
    deadline = time.time() + START_S
    while time.time() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the head ended:\n{log.read_text()[-2000:]}")
        if "Ray runtime started" in log.read_text():
            with socket.socket() as probe:
                if probe.connect_ex((HOST, dashboard)) == 0:
                    return
        time.sleep(0.2)
    raise RuntimeError(f"no head after {START_S} s:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes], temp: str) -> None:
    """Ends the head and whatever of its processes is left: those that name its folder."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=8)
    except subprocess.TimeoutExpired:
        process.kill()
    for left in psutil.process_iter(["cmdline"]):
        if any(temp in word for word in left.info["cmdline"] or []):
            try:
                left.kill()
            except psutil.NoSuchProcess:
                continue
