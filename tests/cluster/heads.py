"""A real Ray head in processes of its own, for tests of jobs that are submitted to a cluster."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
START_S = 90


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

    def run(self, *command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; `env` goes over the head's, an empty value takes one out."""
        given = {name: value for name, value in (self.env | env).items() if value}
        return subprocess.run(
            command, cwd=cwd, env=given, capture_output=True, text=True, timeout=240, check=False
        )


@contextmanager
def head(*options: str, **env: str) -> Iterator[Head]:
    """`ray start --head` on free ports and in a temporary folder; all it started ends with it.

    Args:
        options: further options of `ray start`.
        env: further environment of the head and of what `Head.run` starts.
    """
    gcs, dashboard = free_port(), free_port()
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
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
        log = Path(temp) / "head.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env=given, start_new_session=True
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
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
    for left in psutil.process_iter(["cmdline"]):
        if any(temp in word for word in left.info["cmdline"] or []):
            try:
                left.kill()
            except psutil.NoSuchProcess:
                continue
