"""The pool's steps through Ray and the store: every row accounted for, the same pool each time."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from limo_ray.core import config
from limo_ray.curate import read_step
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pool import build_pool
from limo_ray.problems import sources
from limo_ray.storage.store import Store, scan
from tests.curate import messy_pool

ROOT = Path(__file__).parent.parent.parent
LAPTOP = str(ROOT / "conf/curate/laptop.yaml")
BENCHMARK = [
    "A gardener plants 17 rows of 23 tulips and then 9 rows of 41 roses. How many flowers is that?",
    "Compute $\\frac{3}{7} + \\frac{2}{5}$.",
]


def problems(count: int, seed: int) -> list[dict[str, str]]:
    """Word problems that differ in words and numbers, with copies of all kinds among them."""
    rng = random.Random(seed)
    names, things = ["Ann", "Bob", "Chloe", "Dmitri", "Eve"], ["pears", "stamps", "coins", "maps"]
    rows = []
    for i in range(count):
        a, b = rng.randint(100, 999), rng.randint(2, 99)
        question = (
            f"{rng.choice(names)} collects {rng.choice(things)} number {i} to {i + a} every day of "
            f"the week and gives {b} of them away on Sunday, which makes the whole family happy. "
            f"How many of them stay in the old house by the river after {b + 3} weeks?"
        )
        rows.append({"question": question, "answer": str(a * b), "solution": "Count them."})
    for row in rng.sample(rows, count // 10):
        rows.append(row | {"question": row["question"].upper().replace(" ", "  ")})
    for row in rng.sample(rows[:count], count // 10):
        rows.append(row | {"question": row["question"].replace("every day of", "each day of")})
    for row in rng.sample(rows[:count], 5):
        rows.append(row | {"answer": "-1"})
    rows += [{"question": f"Please read. {q} Thank you!", "answer": "1"} for q in BENCHMARK]
    rng.shuffle(rows)
    return rows


def write(folder: Path, rows: list[dict[str, str]], files: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        lines = [json.dumps(row) + "\n" for row in rows[number::files]]
        (folder / f"part-{number}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    lines = [json.dumps({"problem": q, "answer": "1"}) + "\n" for q in BENCHMARK]
    (folder / "kept_out.jsonl").write_text("".join(lines))
    write(folder / "rows", problems(600, seed=1))
    return folder


def settings(data: Path, store: Path, *more: str, rows: str = "rows") -> list[str]:
    source = [{"path": f"{data}/{rows}", "question": "question", "answer": "answer"}]
    out = [{"path": f"{data}/kept_out.jsonl", "question": "problem", "answer": "answer"}]
    return [
        LAPTOP, f"sources={json.dumps(source)}", f"store={store}", "engines.smollm2.kind=scripted",
        f"decontaminate.files={json.dumps(out)}", "engines.smollm2.max_model_len=2048", *more,
    ]  # fmt: skip


def pool_of(arguments: list[str]) -> list[dict]:
    chosen = config.load(CurateConfig, arguments)
    run = Store(chosen.store).within("runs/laptop")
    return [row for batch in scan(build_pool(chosen, run)) for row in batch.to_pylist()]


def drop_reasons(rows: list[dict]) -> Counter:
    return Counter((row["stage"], row["reason"]) for row in rows)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory, local_ray) -> list[dict]:
    return pool_of(settings(data, tmp_path_factory.mktemp("store")))


def test_every_row_has_its_drop_reason(undisturbed: list[dict], data: Path) -> None:
    lines = sum(len(file.read_text().splitlines()) for file in (data / "rows").glob("*"))
    assert len(undisturbed) == lines == 600 + 60 + 60 + 5 + 2
    found = drop_reasons(undisturbed)
    assert found["decontaminate", "contaminated"] == 2
    # rows of a conflict all go; a copy of one of them goes with it
    assert found["dedup", "conflicting_answers"] >= 10
    assert 50 <= found["dedup", "duplicate"] <= 60
    assert 55 <= found["dedup", "near_duplicate"] <= 60
    kept = {row["id"]: row for row in undisturbed if row["reason"] is None}
    for row in undisturbed:
        if row["reason"] in ("duplicate", "near_duplicate"):
            evidence = json.loads(row["evidence"])
            if row["reason"] == "near_duplicate":
                stays = kept[evidence["id"]]
                assert evidence["similarity"] >= 0.8
                assert evidence["kept"]["file"] == stays["file"]
                assert evidence["kept"]["line"] == stays["line"]
        if row["reason"] == "contaminated":
            evidence = json.loads(row["evidence"])
            assert evidence["benchmark"] == "kept_out" and evidence["shared"]
    orders = [row["order"] for row in kept.values()]
    assert len(set(orders)) == len(orders)


def test_block_sizes_and_the_order_of_rows_make_no_difference(
    undisturbed: list[dict], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = problems(600, seed=1)
    random.Random(9).shuffle(rows)
    write(data / "shuffled", rows, files=3)
    monkeypatch.setattr(sources, "SPAN_BYTES", 20_000)
    monkeypatch.setattr(read_step, "BUCKET_ROWS", 100)
    other = pool_of(settings(data, tmp_path, rows="shuffled"))

    def content(pool: list[dict]) -> list[tuple]:
        return sorted(
            (row["id"], row["question"], row["answer"], row["order"])
            for row in pool if row["reason"] is None
        )  # fmt: skip

    assert content(other) == content(undisturbed)
    assert drop_reasons(other) == drop_reasons(undisturbed)


def test_steps_can_be_switched_off(data: Path, tmp_path: Path, local_ray) -> None:
    off = ["near.drop=false", "decontaminate.files=[]", "gold_check=false"]
    found = drop_reasons(pool_of(settings(data, tmp_path, *off)))
    assert {reason for _, reason in found} == {None, "duplicate", "conflicting_answers"}


def test_a_template_keeps_as_many_as_it_may(data: Path, tmp_path: Path, local_ray) -> None:
    rows = [
        {"question": f"A train covers {n} miles in {n % 7 + 2} hours. What is its speed in miles "
         "per hour on this long and sunny day in the north?", "answer": str(n)}
        for n in range(100, 140)
    ]  # fmt: skip
    write(data / "trains", rows, files=1)
    more = ["near.numbers=template", "near.per_template=3"]
    found = drop_reasons(pool_of(settings(data, tmp_path, *more, rows="trains")))
    assert found == {(None, None): 3, ("dedup", "template"): 37}
    assert drop_reasons(pool_of(settings(data, tmp_path, rows="trains"))) == {(None, None): 40}


def test_messy_pool_gives_each_record_its_row(tmp_path: Path, local_ray, monkeypatch) -> None:
    messy = messy_pool.write(tmp_path / "messy")
    monkeypatch.setattr(sources, "SPAN_BYTES", 1_000_000)
    listed = json.dumps([config.as_dict(source) for source in messy.sources])
    rows = pool_of([LAPTOP, f"sources={listed}", f"store={tmp_path}",
                    "engines.smollm2.kind=scripted", "near.drop=false"])  # fmt: skip
    assert len(rows) == messy_pool.ROWS
    assert drop_reasons(rows)["sources", "invalid"] == messy_pool.BROKEN
    assert drop_reasons(rows)[None, None] == messy_pool.ROWS - messy_pool.BROKEN


def test_a_benchmark_that_cannot_be_loaded_stops_the_job(
    data: Path, tmp_path: Path, local_ray
) -> None:
    nowhere = "decontaminate.mirror=http://127.0.0.1:9"
    wrong = settings(data, tmp_path, "decontaminate.benchmarks=[gaokao]", nowhere)
    with pytest.raises(ValueError, match=r"decontaminate.benchmarks\[0\]: benchmark gaokao: .*"):
        pool_of(wrong)
    assert not (tmp_path / "runs/laptop/pool.json").exists()
    assert len(pool_of([*wrong, "decontaminate.allow_missing=true"])) == 727


def test_a_pool_without_rows_is_refused(data: Path, tmp_path: Path, local_ray) -> None:
    write(data / "empty", [], files=1)
    with pytest.raises(ValueError, match=r"sources\[0\] \(empty\): no rows in .*is the file empty"):
        pool_of(settings(data, tmp_path, rows="empty"))


def test_a_source_that_cannot_be_read_or_leaves_nothing_stops_the_job(
    data: Path, tmp_path: Path, local_ray
) -> None:
    rows = [{"question": "What is it?", "answer": ""}] * 19
    rows.append({"question": "What is the sum of 3, 4 and 5 apples?", "answer": "12"})
    few = settings(write(data / "few", rows).parent, tmp_path, rows="few")
    with pytest.raises(ValueError, match=r"\(few\): 1 of 20 rows can be read; .*answer: empty"):
        pool_of(few)
    assert drop_reasons(pool_of([*few, "min_readable=0"]))[None, None] == 1
    with pytest.raises(ValueError) as caught:
        pool_of([*few, "min_readable=0", "filters.min_chars=5000"])
    told = str(caught.value)
    assert told.startswith("no problem is left in the pool\n") and "1 length" in told
    assert "length (1 rows): set filters.min_chars" in told


DRIVER = """
import sys
from limo_ray.cli import ray_cluster
from limo_ray.curate import read_step
from limo_ray.problems import sources
from tests.curate import test_pool
sources.SPAN_BYTES, read_step.BUCKET_ROWS = 20_000, 100
ray_cluster.start_ray(log_to_driver=False)
test_pool.pool_of(sys.argv[1:])
"""


@pytest.mark.parametrize("step", ["done", "exact", "links", "near", "pool"])
def test_kill_9_in_any_step_changes_nothing(
    step: str, undisturbed: list[dict], data: Path, tmp_path: Path, local_ray, monkeypatch
) -> None:
    arguments = settings(data, tmp_path)
    address = local_ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments],
        cwd=ROOT, env=os.environ | {"RAY_ADDRESS": address}, start_new_session=True,
    )  # fmt: skip
    run = tmp_path / "runs/laptop"
    watched = run / step if step == "pool" else run / "pool-work" / step
    deadline = time.time() + 120
    while driver.poll() is None and time.time() < deadline:
        if watched.is_dir() and any(watched.iterdir()):
            os.killpg(driver.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    assert driver.wait() == -signal.SIGKILL
    assert not (run / "pool.json").exists()
    left = {path: path.stat().st_mtime_ns for path in (run / "pool-work").rglob("*.parquet")}
    monkeypatch.setattr(sources, "SPAN_BYTES", 20_000)
    monkeypatch.setattr(read_step, "BUCKET_ROWS", 100)
    again = []
    plain = Store.write_bytes

    def noted(self: Store, name: str, content: object) -> None:
        again.append(self.path(name))
        plain(self, name, content)

    monkeypatch.setattr(Store, "write_bytes", noted)
    assert sorted(map(str, pool_of(arguments))) != []
    files = sorted((run / "pool").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert drop_reasons(rows) == drop_reasons(undisturbed)

    def kept(pool: list[dict]) -> list[tuple]:
        return sorted((r["id"], r["file"], r["line"], r["order"]) for r in pool if not r["reason"])

    assert kept(rows) == kept(undisturbed)
    assert not set(map(str, left)) & set(again), "what was there was made again"


def test_killed_workers_change_nothing(
    data: Path, undisturbed: list[dict], tmp_path: Path, local_ray
) -> None:
    """Workers of whatever step die; Ray makes their work items again."""
    killed: list[str] = []
    rng, over = random.Random(5), threading.Event()

    def kill() -> None:
        while not over.wait(rng.uniform(0.05, 0.4)):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, IndexError):
                    title = process.cmdline()[0]
                    mine = title.startswith("ray::") and "map" in title.lower()
                    if mine and len(killed) < 8:
                        process.kill()
                        killed.append(title)
                        break

    rows = problems(600, seed=1)
    write(tmp_path / "rows", rows, files=6)  # more work items
    (tmp_path / "kept_out.jsonl").write_bytes((data / "kept_out.jsonl").read_bytes())
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        found = pool_of(settings(tmp_path, tmp_path / "store"))
    finally:
        over.set()
        thread.join()
    assert killed
    assert drop_reasons(found) == drop_reasons(undisturbed)
    assert {r["id"] for r in found if not r["reason"]} == {
        r["id"] for r in undisturbed if not r["reason"]
    }
