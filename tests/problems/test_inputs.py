"""What a job needs from elsewhere, in one table: what is here, and, asked for, what is there."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limo_ray.problems import inputs
from limo_ray.problems.benchmarks import BENCHMARKS
from limo_ray.problems.sources import SourceConfig
from limo_ray.storage import hub
from limo_ray.storage.store import Store
from tests import hub_server

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
CHECK = """
import json, sys
from limo_ray.problems import inputs
from limo_ray.storage.hub import use_cache_if_unreachable
told = use_cache_if_unreachable()
listed = [inputs.of_model("owner/there"), inputs.of_model("owner/gated", "main"),
          inputs.of_data("owner/gone"), inputs.of_model("owner/there", "f" * 40)]
sys.stdout.write(f"{told}|{inputs.show(listed, check=True)}")
"""


def table(listed: list[inputs.Input], capsys, check: bool = False) -> tuple[bool, list[str]]:
    nothing_missing = inputs.show(listed, check=check)
    return nothing_missing, capsys.readouterr().out.strip().splitlines()[1:]


def ask(endpoint: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": ""},
    )  # fmt: skip
    return done.stdout


def test_files_folders_and_generators_are_looked_for_here(tmp_path: Path, capsys) -> None:
    (tmp_path / "own.jsonl").write_text("{}\n")
    (tmp_path / "model").mkdir()
    listed = [
        inputs.of_source(SourceConfig(path=f"{tmp_path}/own.jsonl")),
        inputs.of_source(SourceConfig(name="made", gym={"gcd": 3})),
        inputs.of_source(SourceConfig(name="lost", path=f"{tmp_path}/lost.jsonl")),
        inputs.of_model(f"{tmp_path}/model"),
        inputs.of_model("owner/name"),
        inputs.of_benchmark("gaokao", "", str(tmp_path), "http://mirror"),
    ]
    fine, lines = table(listed, capsys)
    assert not fine
    cells = [line.split() for line in lines]
    assert [row[1] for row in cells[1:7]] == [
        "own", "made", "lost", f"{tmp_path}/model", "owner/name", "gaokao",
    ]  # fmt: skip
    assert cells[1][4:] == ["yes", "-"] and cells[2][2:] == ["generator", "-", "made", "here", "-"]
    assert cells[5][2:] == ["hub", "not", "pinned", "not", "looked", "-"]
    assert cells[6][2:] == ["github", "2284c6a0e665", "not", "looked", "MIT"]
    assert lines[7] == "2 of 6 inputs cannot be had"
    assert "lost: path: no file matches" in lines[8] and "has no config.json" in lines[9]


def test_a_pinned_file_is_asked_for_and_found_in_the_store(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = BENCHMARKS["gaokao"]
    file = dataclasses.replace(known.file, sha256=hashlib.sha256(b"{}").hexdigest())
    monkeypatch.setitem(BENCHMARKS, "gaokao", dataclasses.replace(known, file=file))
    with hub_server.serve({}, {f"GAIR-NLP/LIMO/{file.commit}/{file.path}": b"{}"}) as server:
        listed = [inputs.of_benchmark("gaokao", "", str(tmp_path), server.url)]
        assert table(listed, capsys, check=True)[1][1].split()[4:] == ["yes", "MIT"]
    fine, lines = table(listed, capsys, check=True)
    assert not fine and "gaokao:" in lines[-1] and "refused" in lines[-1]
    Store(str(tmp_path)).write_bytes(file.name, b"{}")
    fine, lines = table(listed, capsys, check=True)
    assert fine and lines[1].split()[4:] == ["in", "the", "store", "MIT"]


@pytest.mark.process
def test_the_hub_says_commit_licence_and_conditions(tmp_path: Path) -> None:
    repositories = {"models/owner/there": {"config.json": b"{}"}, "models/owner/gated": {}}
    with hub_server.serve(repositories, gated=("models/owner/gated",)) as server:
        told, _, fine = ask(server.url, tmp_path).partition("|")
    assert fine == "False"
    assert f"not pinned, now {hub_server.COMMIT}  yes    apache-2.0" in told
    assert "2 of 4 inputs cannot be had" in told
    assert "owner/gated: has conditions: accept them on its page, then `hf auth login`" in told
    assert "owner/gone: 404" in told or "owner/gone: Repository Not Found" in told
    assert "ffffffffffff" in told


@pytest.mark.process
def test_a_hub_that_cannot_be_reached_is_said_at_once(tmp_path: Path) -> None:
    told = ask("http://127.0.0.1:9", tmp_path)
    assert "http://127.0.0.1:9 cannot be reached ([Errno 111] Connection refused)|False" in told
    assert "owner/there: the hub is not asked (HF_HUB_OFFLINE)" in told


def test_every_benchmark_says_where_it_is() -> None:
    for name, known in BENCHMARKS.items():
        assert bool(known.hub) != bool(known.file), name
        assert inputs.COMMIT.fullmatch(known.revision or known.file.commit), name
        assert known.file is None or len(known.file.sha256) == 64, name
    assert hub.TRIES > 1
