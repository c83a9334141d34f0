"""A whole curation on the scripted engine: outputs, ledger, resume, kills."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.exceptions import RayError

from limo_ray.attempts.parts import read_table
from limo_ray.core import config
from limo_ray.core.errors import reason
from limo_ray.core.records import ATTEMPT, problem_id
from limo_ray.curate.candidates import candidates, pass_rate
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import passes
from limo_ray.curate.pipeline import curate
from limo_ray.curate.select import select
from limo_ray.sampling.passes import check_engines, check_fits
from limo_ray.storage.store import Store
from limo_ray.verify import VerificationError
from tests import processes
from tests.curate import messy_pool

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
# jobs of these tests start a Ray of their own
ALONE = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
LAPTOP = str(ROOT / "conf/curate/laptop.yaml")


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    rows = [{"question": f"What is {n} + {n}?", "answer": 2 * n} for n in range(150)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(pool: Path, store: Path, *more: str) -> list[str]:
    source = json.dumps([{"path": str(pool), "question": "question", "answer": "answer"}])
    return [
        LAPTOP, f"sources={source}", f"store={store}", "engines.smollm2.kind=scripted",
        "engines.smollm2.num_cpus=0.5", "engines.smollm2.max_num_seqs=16", "sampler.flush_s=0.2",
        "sampler.speculative_share=0", "difficulty.stop_after_kept=0",
        "difficulty.weak.sampling.temperature=1", "selection.k=10",
        "decontaminate.files=[]", *more,
    ]  # fmt: skip


def run(pool: Path, store: Path, *more: str):
    return curate(config.load(CurateConfig, arguments(pool, store, *more)), "cpu")


def ledger(store: Path) -> list[dict]:
    return pq.read_table(store / "runs/laptop/ledger").to_pylist()


def logged(store: Path) -> list[tuple[str, str, int]]:
    found = []
    for folder in sorted((store / "attempts").iterdir()):
        table = read_table(Store(str(folder)), "", ["problem_id", "index"])
        ids, numbers = table["problem_id"].to_pylist(), table["index"].to_pylist()
        found += [(folder.name, *each) for each in zip(ids, numbers, strict=True)]
    return sorted(found)


def examples(store: Path) -> list[dict]:
    return pq.read_table(store / "runs/laptop/examples.parquet").to_pylist()


@pytest.fixture(scope="module")
def undisturbed(local_ray, sums: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed")
    run(sums, store)
    return store


def test_a_run_leaves_everything_behind(undisturbed: Path) -> None:
    folder = undisturbed / "runs/laptop"
    manifest = json.loads((folder / "manifest.json").read_text())
    counts = manifest["counts"]
    assert counts["input"] == counts["pool"] == counts["sampled"] == 150
    assert counts["selected"] == 10 <= counts["with_chain"] <= counts["kept"]
    assert manifest["fingerprints"].keys() == {"weak", "strong", "SmolLM2-135M-Instruct"}
    assert "<html" in (folder / "report.html").read_text()
    rows = ledger(undisturbed)
    assert len(rows) == 150
    assert Counter(row["outcome"] for row in rows) == {"kept": 10, "dropped": 140}
    chosen = {row["problem_id"] for row in rows if row["outcome"] == "kept"}
    assert chosen == {row["problem_id"] for row in examples(undisturbed)}


def test_examples_are_verified_chats(undisturbed: Path) -> None:
    for row in examples(undisturbed):
        roles = [turn["role"] for turn in row["messages"]]
        assert roles == ["system", "user", "assistant"]
        assert row["messages"][1]["content"] == row["question"]
        assert rf"\boxed{{{row['answer']}}}" in row["messages"][2]["content"]
        assert problem_id(row["question"]) == row["problem_id"]


def test_a_finished_run_gives_its_candidates_again(undisturbed: Path, sums: Path) -> None:
    made = config.load(CurateConfig, arguments(sums, undisturbed))
    found = candidates(made, "cpu")
    assert found.rows(select(found.chains, made.selection)) == examples(undisturbed)
    wide = candidates(made, "cpu", wide=True)
    assert wide.kept == found.kept == set(found.problems)
    dropped = {chain.problem_id for chain in wide.chains} - wide.kept
    assert dropped and {c.teacher for c in wide.chains if c.problem_id in dropped} == {"strong"}
    strong = made.difficulty.strong.rule
    assert all(pass_rate(wide.problems[id_]) > strong.keep_max / strong.budget for id_ in dropped)


def test_datasets_loads_the_run_directory(undisturbed: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(undisturbed / "runs/laptop"), cache_dir=str(tmp_path))
    assert loaded["train"].num_rows == 10
    assert loaded["train"][0]["messages"][0]["role"] == "system"


def test_the_same_command_again_does_nothing(undisturbed: Path, sums: Path) -> None:
    before = logged(undisturbed)
    assert run(sums, undisturbed).resumed
    assert logged(undisturbed) == before


def test_a_changed_rule_reuses_every_attempt(undisturbed: Path, sums: Path, local_ray) -> None:
    before = logged(undisturbed)
    result = run(sums, undisturbed, "name=wider", "difficulty.strong.rule.budget=6")
    assert not result.resumed
    after = logged(undisturbed)
    assert set(before) < set(after)
    assert len(after) == len(set(after))


def test_a_target_keeps_the_first_in_the_seeded_order(
    local_ray, undisturbed: Path, sums: Path, tmp_path: Path
) -> None:
    wanted = 8
    run(sums, tmp_path, f"difficulty.stop_after_kept={wanted}")
    rows = ledger(tmp_path)
    assert len(rows) == 150
    reasons = Counter(row["reason"] for row in rows)
    assert reasons["not_sampled"] > 0
    # what the whole pool's run kept, cut after its eighth in the order
    decided = pq.read_table(undisturbed / "runs/laptop/decided").to_pylist()
    kept = sorted(row["order"] for row in decided if row["alive"])
    first = {row["id"] for row in decided if row["alive"] and row["order"] <= kept[wanted - 1]}
    gone = {"drop_easy", "drop_hard", "not_sampled"}
    assert {row["problem_id"] for row in rows if row["reason"] not in gone} == first
    manifest = json.loads((tmp_path / "runs/laptop/manifest.json").read_text())
    estimate = manifest["extrapolation"]["rows"][0]
    assert estimate["low"] <= len(kept) <= estimate["high"]


TWO_ENGINES = (
    "engines.other={kind: scripted, model: scripted, device: cpu, num_cpus: 0.4, seed: 9,"
    " max_num_seqs: 16}",
    "difficulty.weak.engine=other",
)


def test_engines_side_by_side_or_one_after_the_other_keep_the_same(
    local_ray, sums: Path, tmp_path: Path
) -> None:
    kept = {}
    for overlap in ("true", "false"):
        run(sums, tmp_path / overlap, *TWO_ENGINES, f"difficulty.overlap={overlap}")
        kept[overlap] = {row["problem_id"]: row["reason"] for row in ledger(tmp_path / overlap)}
    assert kept["true"] == kept["false"]
    assert len(kept["true"]) == 150
    assert set(kept["true"].values()) >= {None, "drop_easy", "drop_hard", "outranked"}


def test_a_target_per_source(local_ray, sums: Path, tmp_path: Path) -> None:
    other = tmp_path / "more.jsonl"
    rows = [{"question": f"What is {n} times 2?", "answer": 2 * n} for n in range(150)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = json.dumps(
        [
            {"name": name, "path": str(path), "question": "question", "answer": "answer"}
            for name, path in (("sums", sums), ("more", other))
        ]
    )
    run(
        sums, tmp_path, f"sources={sources}", "difficulty.stop_after_kept=5",
        "difficulty.per=source",
    )  # fmt: skip
    rows = ledger(tmp_path)
    assert len(rows) == 300
    kept = Counter(row["source"] for row in rows if row["stage"] in ("selection", "chains"))
    assert kept == {"sums": 5, "more": 5}
    manifest = json.loads((tmp_path / "runs/laptop/manifest.json").read_text())
    assert [row["group"] for row in manifest["extrapolation"]["rows"]] == ["more", "sums"]


def test_a_messy_pool_is_accounted_for_row_by_row(local_ray, tmp_path: Path) -> None:
    pool = messy_pool.write(tmp_path / "pool", 0)
    quick = ("difficulty.weak=null", "engines.smollm2.max_num_seqs=128")
    loaded = config.load(CurateConfig, arguments(tmp_path, tmp_path / "store", *quick))
    loaded.sources = pool.sources
    curate(loaded, "cpu")
    rows = ledger(tmp_path / "store")
    assert len(rows) == 1000
    invalid = [row for row in rows if row["reason"] == "invalid"]
    assert len(invalid) == 100
    for row in invalid:
        field, words = pool.broken[row["file"], row["line"]]
        evidence = json.loads(row["evidence"])
        assert evidence["field"] == field
        assert words in evidence["error"]
    manifest = json.loads((tmp_path / "store/runs/laptop/manifest.json").read_text())
    assert manifest["counts"]["input"] == 1000
    assert manifest["counts"]["invalid"] == 100


SLOW = ("engines.smollm2.script={seconds_per_token: 0.01}",)


def start(sums: Path, store: Path, *changed: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "jobs/curate.py", *arguments(sums, store, *SLOW, *changed)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=ALONE,
    )  # fmt: skip


def wait_for_parts(job: subprocess.Popen, store: Path, count: int) -> None:
    """Until the strong stage, in the middle of its work, has this many parts in its log."""
    deadline = time.time() + 120
    while time.time() < deadline:
        logs = [list(folder.glob("*.parquet")) for folder in (store / "attempts").glob("*")]
        if len(logs) >= 2 and min(map(len, logs)) >= count:
            return
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    raise AssertionError("the log did not grow")


@pytest.fixture(scope="module")
def reference(local_ray, sums: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the killed runs must come to: the same attempts, undisturbed."""
    store = tmp_path_factory.mktemp("reference")
    run(sums, store, *SLOW)
    return store


@pytest.mark.parametrize("whom", ["driver", "everything"])
def test_kill_9_costs_nothing_that_was_logged(
    whom: str, sums: Path, reference: Path, tmp_path: Path
) -> None:
    job = start(sums, tmp_path)
    wait_for_parts(job, tmp_path, 4)
    family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    for process in family if whom == "everything" else family[:1]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    job.communicate()
    processes.end(family)
    before = logged(tmp_path)
    assert 0 < len(before) < len(logged(reference))

    run(sums, tmp_path, *SLOW)
    after = logged(tmp_path)
    assert len(after) == len(set(after)), "a logged attempt was sampled again"
    assert set(before) <= set(after)
    assert [row["problem_id"] for row in examples(tmp_path)] == [
        row["problem_id"] for row in examples(reference)
    ]
    kept = {row["problem_id"] for row in ledger(tmp_path) if row["stage"] == "selection"}
    assert kept == {r["problem_id"] for r in ledger(reference) if r["stage"] == "selection"}


def test_a_second_driver_of_a_run_is_refused_and_the_first_goes_on(
    sums: Path, tmp_path: Path
) -> None:
    first = start(sums, tmp_path, "engines.smollm2.script={seconds_per_token: 10}")
    try:
        deadline = time.time() + 120
        while not (tmp_path / "runs/laptop/progress.json").exists():
            assert time.time() < deadline and first.poll() is None
            time.sleep(0.1)
        second = start(sums, tmp_path)
        said, _ = second.communicate(timeout=120)
        assert second.returncode == 1
        assert f"failed: laptop: another driver works on this run (pid {first.pid} on" in said
        assert first.poll() is None
    finally:
        first.terminate()
        first.communicate(timeout=60)
    assert first.returncode == 130
    assert not list((tmp_path / "runs/laptop/lease").iterdir())


def job(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "jobs/curate.py", *argv], cwd=ROOT, capture_output=True, text=True,
        env=ALONE, check=False,
    )  # fmt: skip


def test_a_wrong_config_is_one_line_and_exit_code_2() -> None:
    done = job("conf/curate/laptop.yaml", "difficulty.strong.rule.keep_min=9")
    assert done.returncode == 2
    assert re.fullmatch(r"config error: command line: difficulty\.strong\.rule\.keep_min: 9 .*\n",
                        done.stderr), done.stderr  # fmt: skip


def test_without_a_preset_the_cluster_decides_and_the_first_line_says_so() -> None:
    done = job("--dry-run")
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first == "no preset named and the Ray cluster has no GPU: using conf/curate/laptop.yaml"
    assert "weak: 1 attempts" in done.stdout


@pytest.mark.parametrize("preset", ["limo", "limo_v1", "s1"])
def test_cluster_presets_ask_for_gpus_that_are_not_there_yet(
    preset: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load(CurateConfig, [str(ROOT / f"conf/curate/{preset}.yaml")])
    planned = passes(settings, "cpu", identify=False)
    assert {one.engine.device for one in planned} == {"gpu"}
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_engines(planned, "cpu")
    assert "the cluster has no GPU now, and the engines weak, strong" in caplog.text
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(ValueError, match="this machine has"):
        check_engines(planned, "cpu")


def test_engines_that_do_not_fit_the_machine_are_refused() -> None:
    settings = config.load(CurateConfig, [str(ROOT / "conf/curate/limo.yaml")])
    planned = passes(settings, "gpu", identify=False)
    there = {"CPU": 64.0, "GPU": 64.0}
    check_fits(planned, there, together=True)
    with pytest.raises(ValueError, match=r"weak, strong.* GPU, .* has 4.*overlap=false"):
        check_fits(planned, there | {"GPU": 4.0}, together=True)
    sizes = [one.engine.tensor_parallel * one.engine.pipeline_parallel for one in planned]
    replicas = [one.engine.min_replicas for one in planned]
    needed = [float(a * b) for a, b in zip(sizes, replicas, strict=True)]
    check_fits(planned, there | {"GPU": sum(needed)}, together=True)
    check_fits(planned, there | {"GPU": max(needed)}, together=False)
    with pytest.raises(ValueError, match=f"this machine has {max(needed) - 1:g}$"):
        check_fits(planned, there | {"GPU": max(needed) - 1}, together=False)
    with pytest.raises(ValueError, match=r"has 0$"):
        check_fits(planned, {"CPU": 64.0}, together=False)
    planned[0].engine.resources = {"special": 1}
    with pytest.raises(ValueError, match="1 special, this machine has 0"):
        check_fits(planned[:1], there, together=True)


def test_a_failing_engine_is_one_line_and_exit_code_1(sums: Path, tmp_path: Path) -> None:
    done = job(*arguments(sums, tmp_path, "engines.smollm2.script={fail: out of memory}"))
    assert done.returncode == 1
    assert "failed: out of memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = job(*arguments(tmp_path / "no.jsonl", tmp_path))
    assert done.returncode == 1
    assert "no.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_checker_stops_the_run_and_keeps_what_was_drawn(
    local_ray, tmp_path: Path
) -> None:
    pool, store = tmp_path / "words.jsonl", tmp_path / "store"
    rows = [{"question": f"Which animal is number {n}?", "answer": "blue whale"} for n in range(30)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dead = "sampler.judge={url: 'http://127.0.0.1:9/v1', model: judge, attempts: 1, patience_s: 1}"
    for _ in range(2):  # the second time on verdicts that the log holds
        with pytest.raises((VerificationError, RayError)) as caught:
            run(pool, store, dead)
        assert "the verifier failed on" in reason(caught.value)
    before = logged(store)
    assert before and not (store / "runs/laptop/examples.parquet").exists()
    # without the judge the logged attempts are verified again
    result = run(pool, store)
    assert "30 rows read" in result.summary()
    assert len(set(logged(store))) >= len(set(before))
    assert not {"error", "timeout"} & {verdict for *_, verdict in verdicts(store)}


def verdicts(store: Path) -> list[tuple[str, int, str]]:
    """Of every logged attempt the last verdict."""
    found = {}
    for folder in sorted((store / "attempts").iterdir()):
        for row in read_table(Store(str(folder)), "", list(ATTEMPT.names)).to_pylist():
            found[folder.name, row["problem_id"], row["index"]] = row["verdict"]
    return [(name, index, verdict) for (_, name, index), verdict in found.items()]


def test_row_schema_of_examples_is_stable(undisturbed: Path) -> None:
    schema = pq.read_schema(undisturbed / "runs/laptop/examples.parquet")
    assert schema.field("messages").type == pa.list_(
        pa.struct([("role", pa.string()), ("content", pa.string())])
    )
