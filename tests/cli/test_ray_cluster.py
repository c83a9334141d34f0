"""A local Ray lets nobody else in: loopback addresses, and a token that only this job has."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]

JOB = """
import ray, sys
from limo_ray.cli.ray_cluster import start_ray
start_ray()
assert ray.get(ray.remote(lambda: 42).remote()) == 42
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""

INTRUDER = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="error")
print("ran code:", ray.get(ray.remote(lambda: 42).remote()))
"""


@pytest.fixture(scope="module")
def job():
    """A job that has started a local Ray, and Ray's address."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", JOB], cwd=ROOT, env=plain, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    yield process.pid, process.stdout.readline().strip()
    process.communicate("", timeout=60)


def test_every_server_of_a_local_ray_listens_on_loopback_only(job: tuple[int, str]) -> None:
    pid, address = job
    assert address.startswith("127.0.0.1:")
    listening = set()
    for process in psutil.Process(pid).children(recursive=True):
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add(connection.laddr.ip.removeprefix("::ffff:"))
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_client_without_the_token_runs_no_code(job: tuple[int, str], token: str) -> None:
    _, address = job
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    plain |= (
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        if token
        else {"RAY_AUTH_MODE": "disabled"}
    )
    command = [sys.executable, "-c", INTRUDER, address]
    try:
        done = subprocess.run(
            command, cwd="/", env=plain, capture_output=True, text=True, timeout=40
        )
    except subprocess.TimeoutExpired:
        return  # Ray goes on asking a server that refuses it
    assert done.returncode != 0
    assert "ran code" not in done.stdout


def test_a_node_that_is_too_slow_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from limo_ray.cli import ray_cluster

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_cluster, "guard_local_ray", lambda: None)
    with pytest.raises(
        ConnectionError, match=r"Ray did not start: The current node .* startup. \("
    ):
        ray_cluster.start_ray()
