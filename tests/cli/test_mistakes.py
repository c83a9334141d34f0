"""What a new user meets first: one message that says what to do, and an exit code."""

import dataclasses
import errno
import os
import socket
from pathlib import Path

import pytest

from limo_ray.cli import job
from limo_ray.serve.http_server import listening_socket
from limo_ray.storage.store import Store


@dataclasses.dataclass
class Config:
    store: str = "store"

    def inputs(self) -> list:
        return []


def run(tmp_path: Path, capsys, call, *arguments: str) -> tuple[int, str]:
    """Exit code and message of a job without Ray."""
    preset = tmp_path / "own.yaml"
    preset.write_text(f"store: {tmp_path}/store\n")
    code = job.main(
        "curate", Config, call, lambda config, device: "", [str(preset), *arguments],
        needs_ray=lambda config: False,
    )  # fmt: skip
    return code, capsys.readouterr().err


def write(config: Config, device: str) -> None:
    Store(config.store).write_text("runs/own/manifest.json", "{}")


def test_a_store_that_is_a_file_says_so(tmp_path: Path, capsys) -> None:
    (tmp_path / "store").write_text("not a folder")
    code, told = run(tmp_path, capsys, write)
    assert code == 1 and told.startswith("failed: ") and f"{tmp_path}/store" in told
    assert told.endswith("this is a file. Set store to a folder\n") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full. Free some space, or set store to"),
        (errno.EACCES, "this user cannot write there. Set store to"),
        (errno.EROFS, "this user cannot write there. Set store to"),
    ],
)
def test_a_store_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def refuse(self: Store, name: str, text: str) -> None:
        raise OSError(code, os.strerror(code), f"{self.uri}/{name}")

    monkeypatch.setattr(Store, "write_text", refuse)
    exit_code, told = run(tmp_path, capsys, write)
    assert exit_code == 1 and words in told
    assert f"{tmp_path}/store/runs/own/manifest.json" in told and told.count("\n") == 1


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port: 127.0.0.1:{port}: .*; set port to a free one"):
            listening_socket("127.0.0.1", port)


def test_a_mistyped_preset_is_named(capsys) -> None:
    code = job.main("curate", Config, write, lambda *_: "", ["laptpo"], needs_ray=lambda _: False)
    told = capsys.readouterr().err
    assert code == 2 and "laptpo" in told and "laptop" in told and told.count("\n") == 1
