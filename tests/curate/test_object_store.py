"""A whole curation in an S3 bucket: killed in the middle, resumed, and no credentials anywhere."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import read_table
from limo_ray.cli.status import main
from limo_ray.runs import status
from limo_ray.storage.store import Store
from tests.curate.test_pipeline import ALONE, ROOT, arguments
from tests.object_store import KEY, S3, SECRET, serve_s3

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


def curate(s3: S3, *more: str) -> subprocess.Popen:
    given = arguments(Path("POOL"), Path("STORE"), *more)
    given = [each.replace("POOL", s3.uri("pool/sums.jsonl")) for each in given]
    given = [f"store={s3.uri('limo')}" if each.startswith("store=") else each for each in given]
    return subprocess.Popen(
        [sys.executable, "jobs/curate.py", *given], cwd=ROOT, env=ALONE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def logged(store: Store) -> list[tuple[str, str, int]]:
    folders = store.filesystem.get_file_info(
        pafs.FileSelector(store.path("attempts"), allow_not_found=True)
    )
    found = []
    for folder in folders:
        if folder.type == pafs.FileType.Directory:
            log = AttemptLog(store, folder.base_name)
            rows = read_table(store, log.folder, ["problem_id", "index"]).to_pylist()
            found += [(folder.base_name, row["problem_id"], row["index"]) for row in rows]
    return sorted(found)


def test_a_killed_curation_in_a_bucket_goes_on(
    s3: S3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pool = [{"question": f"What is {n} + {n}?", "answer": 2 * n} for n in range(60)]
    lines = "".join(json.dumps(row) + "\n" for row in pool)
    Store(s3.uri("pool")).write_text("sums.jsonl", lines)
    store = Store(s3.uri("limo"))
    slow = "engines.smollm2.script={seconds_per_token: 0.004}"
    first = curate(s3, slow)
    deadline = time.time() + 120
    while len(logged(store)) < 60:
        assert first.poll() is None, first.communicate()[0]
        assert time.time() < deadline
        time.sleep(0.3)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = logged(store)
    assert main([store.uri, "laptop"]) == 0
    assert "curate laptop: running, in its phase 'sampling'" in capsys.readouterr().out
    monkeypatch.setattr(status, "DEAD_S", 0.0)
    assert main([store.uri, "laptop"]) == 1
    assert "curate laptop: died" in capsys.readouterr().out

    s3.control(fail_share=0.02)
    second = curate(s3)
    printed = second.communicate(timeout=200)[0]
    assert second.returncode == 0, printed
    assert s3.control()["failed"] > 0
    after = logged(store)
    assert set(before) <= set(after) and len(after) == len(set(after))
    run = store.within("runs/laptop")
    manifest = run.read_json("manifest.json")
    assert manifest["counts"]["input"] == manifest["counts"]["sampled"] == 60
    examples = run.read_table("examples.parquet").to_pylist()
    assert len(examples) == manifest["counts"]["selected"] > 0
    assert f"{store.shown}/runs/laptop/report.html" in printed

    assert main([store.uri, "laptop"]) == 0
    shown = capsys.readouterr().out
    assert f"read {store.shown}/runs/laptop/report.html" in shown

    third = curate(s3)
    again = third.communicate(timeout=100)[0]
    assert third.returncode == 0 and "this run had ended before" in again

    hidden = [SECRET, SECRET.replace("/", "%2F"), "wJalr", KEY]
    texts = {"what the job said": printed + again + shown}
    every = store.filesystem.get_file_info(pafs.FileSelector(store.path(""), recursive=True))
    for info in every:
        if info.is_file:
            with store.filesystem.open_input_stream(info.path) as stream:
                texts[info.path] = stream.read().decode(errors="replace")
            if info.path.endswith(".parquet"):
                texts[info.path] += str(store.read_table(info.path[len(store.path("")) + 1 :])
                                        .to_pylist())  # fmt: skip
    assert len(texts) > 10
    leaks = [name for name, text in texts.items() if any(word in text for word in hidden)]
    assert leaks == []
