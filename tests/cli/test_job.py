"""What all jobs share: where they connect to, and what is said when they cannot."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ray.exceptions import AuthenticationError

from limo_ray.cli import ray_cluster
from limo_ray.cli.job import main
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.outputs import RunResult

ROOT = Path(__file__).parents[2]


def test_an_address_answers_when_something_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert ray_cluster._answers(address)
    assert not ray_cluster._answers(address)
    assert ray_cluster._answers("auto"), "words are left to Ray"
    assert ray_cluster._answers("ray://host:10001")


@pytest.mark.parametrize(
    ("mode", "address", "words"),
    [
        ("token", "host:6379", "RAY_AUTH_TOKEN: the Ray cluster at host:6379 refuses this token"),
        ("disabled", "host:6379", "RAY_AUTH_MODE: the Ray cluster at host:6379 does not let"),
        ("", "host:6379", "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        ("token", "auto", "RAY_ADDRESS: auto, but there is no Ray on this machine"),
    ],
)
def test_a_refusal_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, mode: str, address: str, words: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert words in ray_cluster._refused(address)


def test_a_token_file_that_is_not_there_is_named() -> None:
    missing = "RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: /no/such"
    assert ray_cluster._no_token(AuthenticationError(missing)) == missing
    assert "RAY_AUTH_TOKEN_PATH, or put it" in ray_cluster._no_token(
        AuthenticationError("none found")
    )


@pytest.mark.parametrize("selected", [0, 1])
def test_a_curation_without_examples_fails(selected: int) -> None:
    def curated(config: CurateConfig, device: str) -> RunResult:
        return RunResult(
            folder="runs/x", resumed=False, message="", wanted=1, funnel=[], selected=selected,
            counts=dict.fromkeys(["input", "pool", "sampled", "kept", "with_chain", "selected"], 9),
        )  # fmt: skip

    preset = [str(ROOT / "conf/curate/laptop.yaml")]
    code = main("curate", CurateConfig, curated, lambda *_: "", preset, needs_ray=lambda _: False)
    assert code == 1 - selected


@pytest.mark.process
def test_a_wrong_config_ends_with_2_before_ray_starts() -> None:
    command = [sys.executable, "jobs/curate.py", "conf/curate/laptop.yaml", "sede=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("config error: sede=1: sede: unknown key")
