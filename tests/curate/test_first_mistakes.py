"""A source that cannot be read, or a pool with nothing left, stops a job before it samples."""

import json
from collections import Counter
from pathlib import Path

import pytest

from limo_ray.core import config
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pool import build_pool
from limo_ray.curate.steps import Step
from limo_ray.storage.store import Store, scan

LAPTOP = str(Path(__file__).parents[2] / "conf/curate/laptop.yaml")
GOOD = [{"question": f"How many legs have {n} cats and {n + 7} spiders?", "answer": 12 * n + 56}
        for n in range(1, 9)]  # fmt: skip


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_all(step: Step, items: list) -> None:
        for item in items:
            step.run(item)

    monkeypatch.setattr(Step, "_on_cluster", run_all)


def pool(folder: Path, rows: list[dict], *more: str) -> Counter:
    """Drop reasons of a pool made of the rows."""
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = json.dumps([{"path": str(file), "question": "question", "answer": "answer"}])
    arguments = [
        LAPTOP, f"sources={source}", f"store={folder}/store", "engines.smollm2.kind=scripted",
        "decontaminate.files=[]", *more,
    ]  # fmt: skip
    settings = config.load(CurateConfig, arguments)
    run = Store(settings.store).within("runs/laptop")
    build_pool(settings, run)
    return Counter(row["reason"] for batch in scan(run.within("pool")) for row in batch.to_pylist())


def test_a_wrong_column_stops_the_job_before_anything_is_read(tmp_path: Path) -> None:
    rows = [{"question": row["question"], "anwser": row["answer"]} for row in GOOD]
    with pytest.raises(ValueError, match="no column 'answer'; there are question, anwser, did you"):
        pool(tmp_path, rows)
    assert not (tmp_path / "store/runs").exists()


def test_too_few_readable_rows_stop_the_job_and_the_share_can_be_set(tmp_path: Path) -> None:
    rows = [*({"question": "What is it?", "answer": ""} for _ in range(99)), GOOD[0]]
    with pytest.raises(ValueError, match=r"\(own\): 1 of 100 rows can be read; .*answer: empty"):
        pool(tmp_path, rows)
    assert not (tmp_path / "store/runs/laptop/pool.json").exists()
    assert pool(tmp_path, rows, "min_readable=0.01") == {"invalid": 99, None: 1}
    with pytest.raises(ValueError, match="0 of 99 rows can be read"):
        pool(tmp_path, rows[:99], "min_readable=0")


def test_a_pool_in_which_nothing_is_left_says_why_and_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        pool(tmp_path, GOOD, "filters.min_chars=5000")
    told = str(caught.value).splitlines()
    assert told[0] == "no problem is left in the pool"
    assert told[1:3] == ["  rows read      8", "  filters       -8  8 length"]
    assert told[-1].startswith("  length (8 rows): set filters.min_chars")
    assert pool(tmp_path, GOOD) == {None: 8}
