"""`ray job submit` on a real head with token authentication: run, stop, run again, fail."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limo_ray.attempts.parts import read_table
from limo_ray.storage.store import Store
from tests.cluster.heads import ROOT, Head, head

pytestmark = pytest.mark.ray

TOKEN = "a-token-of-this-test-0123456789"
JOBS = ["curate", "train", "evaluate", "serve"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    # by default a job has 3 seconds from SIGTERM to SIGKILL: see docs/guides/clusters.md
    with head(
        "--num-cpus=2", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, RAY_JOB_STOP_WAIT_TIME_S="30"
    ) as found:
        yield found


def submit(cluster: Head, *job: str, options: tuple[str, ...] = ()):
    return cluster.run(
        "ray", "job", "submit", "--address", cluster.dashboard, "--working-dir", str(ROOT),
        *options, "--", "python", *job,
    )  # fmt: skip


def curation(folder: Path, problems: int = 80) -> list[str]:
    pool = folder / "sums.jsonl"
    rows = [{"question": f"What is {n} + {n}?", "answer": 2 * n} for n in range(problems)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = json.dumps([{"path": str(pool), "question": "question", "answer": "answer"}])
    script = json.dumps({"seconds_per_token": 0.02})
    return [
        "jobs/curate.py", "conf/curate/laptop.yaml", f"sources={source}", f"store={folder}/store",
        "engines.smollm2.kind=scripted", f"engines.smollm2.script={script}",
        "engines.smollm2.num_cpus=0.5", "engines.smollm2.max_num_seqs=16", "sampler.flush_s=0.3",
        "difficulty.stop_after_kept=0", "difficulty.weak.sampling.temperature=1", "selection.k=5",
        "decontaminate.files=[]",
    ]  # fmt: skip


def logged(store: Path) -> list[tuple[str, str, int]]:
    found = []
    for folder in sorted(store.glob("attempts/*")):
        table = read_table(Store(str(folder)), "", ["problem_id", "index"])
        ids, draws = table["problem_id"].to_pylist(), table["index"].to_pylist()
        found += [(folder.name, *each) for each in zip(ids, draws, strict=True)]
    return sorted(found)


def test_a_stopped_job_goes_on_when_it_is_submitted_again(cluster: Head, tmp_path: Path) -> None:
    store = tmp_path / "store"
    job = curation(tmp_path)
    named = ("--no-wait", "--submission-id", "curate-1")
    assert submit(cluster, *job, options=named).returncode == 0
    deadline = time.time() + 120
    while len(logged(store)) < 60 and time.time() < deadline:
        time.sleep(0.3)
    at = ("--address", cluster.dashboard)
    stopped = cluster.run("ray", "job", "stop", *at, "curate-1")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    before = logged(store)
    assert len(before) >= 60
    assert not (store / "runs/laptop/manifest.json").exists()
    logs = cluster.run("ray", "job", "logs", *at, "curate-1").stdout
    assert "of 80 problems decided" in logs
    assert "failed: interrupted: the same command goes on where this one stopped" in logs
    status = cluster.run("ray", "job", "status", *at, "curate-1")
    assert "stopped" in (status.stdout + status.stderr).lower()

    again = submit(cluster, *job, options=("--submission-id", "curate-2"))
    assert again.returncode == 0, again.stdout[-3000:]
    assert "succeeded" in again.stdout.lower()
    assert "problems decided" in again.stdout
    assert "report.html" in again.stdout, "what the job came to stands in its logs"
    after = logged(store)
    assert len(after) == len(set(after)), "a logged attempt was drawn again"
    assert set(before) < set(after)
    manifest = json.loads((store / "runs/laptop/manifest.json").read_text())
    assert manifest["counts"]["sampled"] == 80


def test_every_job_runs_where_it_is_submitted(cluster: Head) -> None:
    jobs = [(f"jobs/{name}.py", f"conf/{name}/laptop.yaml") for name in JOBS]
    asked = [(*job, "--dry-run") for job in jobs] + [(*jobs[0], "sede=1")]
    with ThreadPoolExecutor(len(asked)) as together:  # each of them mostly waits
        *done, failed = together.map(lambda job: submit(cluster, *job), asked)
    for each in done:
        assert each.returncode == 0, each.stdout[-3000:]
        assert "# plan" in each.stdout
    assert failed.returncode == 1
    assert "config error: sede=1: sede: unknown key, did you mean seed?" in failed.stdout
    assert "exit code 2" in failed.stdout, "which is that of a wrong config"


def test_only_what_a_job_needs_is_shipped(cluster: Head) -> None:
    """Looks at what the jobs above were given."""
    folder = Path(cluster.temp) / "ray/session_latest/runtime_resources/working_dir_files"
    shipped = [path for path in folder.glob("_ray_pkg_*") if path.is_dir()]
    assert shipped
    tops = {path.name for path in shipped[0].iterdir()}
    assert {"jobs", "conf", "limo_ray"} <= tops
    assert not tops & {"store", "tests", "bench", "docs", "cluster", ".venv", ".git", "build"}
    size = sum(path.stat().st_size for path in shipped[0].rglob("*") if path.is_file())
    assert size < 2 * 2**20


def test_no_connection_is_one_line(cluster: Head) -> None:
    url, gcs = cluster.dashboard, cluster.gcs
    cases = [
        ({"RAY_AUTH_TOKEN": "wrong"}, f"RAY_AUTH_TOKEN: the Ray cluster at {gcs} refuses this"),
        ({"RAY_AUTH_TOKEN": "", "HOME": "/nobody"}, "RAY_AUTH_MODE: token, but there is no token"),
        ({"RAY_ADDRESS": url}, f"RAY_ADDRESS: {url} is a dashboard"),
        ({"RAY_ADDRESS": "127.0.0.1:9"}, "RAY_ADDRESS: no Ray cluster answers at 127.0.0.1:9"),
    ]

    def refused(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        job = ("python", "jobs/curate.py", "conf/curate/laptop.yaml", "--dry-run")
        return cluster.run(*job, **{"RAY_ADDRESS": gcs} | env)

    with ThreadPoolExecutor(len(cases)) as together:
        found = list(together.map(refused, [env for env, _ in cases]))
    for (_, words), each in zip(cases, found, strict=True):
        assert each.returncode == 1
        assert f"failed: {words}" in each.stderr.splitlines()[-1]
        assert TOKEN not in each.stdout + each.stderr
