"""How runs stand, told from what lies in the store."""

import json
import time
from pathlib import Path

import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.cli.status import main
from limo_ray.core.records import Verdict
from limo_ray.runs import status
from limo_ray.storage.store import Store
from tests.attempts.test_log import attempt, write

PRINT = "f" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def stage(verdicts: dict, decisions: dict) -> dict:
    return {"name": "weak", "fingerprint": PRINT, "budget": 4, "reused": 5, "verdicts": verdicts,
            "decisions": decisions, "tokens": {"completion": 900}}  # fmt: skip


def said(**more: object) -> dict:
    facts = {
        "problems": 100, "wanted": 0, "decided": 40, "kept": 3, "left": "about 4 min left",
        "limo_ray_engines": 2, "limo_ray_slots": 34, "limo_ray_slots_open": 30,
        "limo_ray_flush_lag_seconds": 1.5, "attempts_per_s": 7.25, "tokens_per_s": 1234.5,
        "stages": [stage({"correct": 6, "wrong": 2}, {"keep": 3, "drop_easy": 1})],
    }  # fmt: skip
    return {
        "kind": "curate", "name": "x", "status": "running", "phase": "sampling", "error": "",
        "started": time.time() - 600, "at": time.time(), "every_s": 5.0, "host": "node",
        "pid": 7, "command": "python jobs/curate.py x.yaml", "facts": {"sampling": facts},
    } | more  # fmt: skip


def shown(store: Store, capsys: pytest.CaptureFixture, *argv: str) -> tuple[int, str]:
    code = main([store.uri, *argv])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_a_running_curation(store: Store, capsys: pytest.CaptureFixture) -> None:
    log = AttemptLog(store, PRINT)
    write(log, attempt("p", 0, Verdict.CORRECT), attempt("p", 1), attempt("q", 0))
    write(log, attempt("q", 1, Verdict.TRUNCATED))
    store.write_bytes(f"{log.folder}/part-bad.parquet", b"not a part")
    store.write_json("runs/x/progress.json", said())
    store.write_json("runs/x/pool.json", {"key": "k", "seconds": {"read": 3.5}})
    code, text = shown(store, capsys, "x")
    assert code == 0
    for words in (
        "curate x: running, in its phase 'sampling'", "last sign of life 0 s ago, on node (pid 7)",
        "pool       done: read 3.5 s", "40 of 100 problems decided, 3 kept",
        "2 running, 30 of 34 slots open, 7.2 attempts/s, 1,234 tokens/s, about 4 min left",
        "8 attempts in this run, 5 taken from the log; decided 4 (keep 75%, drop_easy 25%)",
        "in the log: 4 attempts in 3 parts (correct 25%, wrong 50%, truncated 25%), last written 0",
        "next       nothing",
    ):  # fmt: skip
        assert words in text, text
    assert store.exists(f"{log.folder}/part-bad.parquet"), "it looks, and moves nothing"


def test_one_that_is_silent_has_died(store: Store, capsys: pytest.CaptureFixture) -> None:
    store.write_json("runs/x/progress.json", said(at=time.time() - 3 * status.DEAD_S))
    store.write_json("runs/x/pool-work/key.json", {})
    store.write_text("runs/x/pool-work/done/000.json", "{}")
    code, text = shown(store, capsys, "x")
    assert code == 1
    assert "curate x: died, in its phase 'sampling'" in text
    assert "pool       files left by its steps: done 1, exact 0" in text
    assert "next       the same command goes on where it stopped: python jobs/curate.py" in text
    assert "slots open" not in text, "that was then"


@pytest.mark.parametrize(
    ("ended", "code", "words"),
    [
        ({"status": "done"}, 0, "read {folder}/report.html"),
        ({"status": "failed", "error": "engine: no memory"}, 1, "error      engine: no memory"),
        ({"status": "interrupted"}, 1, "the same command goes on"),
    ],
)
def test_one_that_has_ended(
    ended: dict, code: int, words: str, store: Store, capsys: pytest.CaptureFixture
) -> None:
    store.write_json("runs/x/progress.json", said(**ended, at=time.time() - 1e6))
    found, text = shown(store, capsys, "x")
    assert found == code and f"curate x: {ended['status']}" in text
    assert words.format(folder=store.within("runs/x").shown) in text


def test_trainings_evaluations_and_studies(store: Store, capsys: pytest.CaptureFixture) -> None:
    training = {"step": 12, "steps": 40, "loss": 0.5, "tokens_per_s": 99.0, "checkpoint": 10,
                "left": "about 2 min left"}  # fmt: skip
    store.write_json(
        "training/t/progress.json", said(phase="training", facts={"training": training})
    )
    asked = {"attempts": 30, "of": 120, "model": "m", "tokens_per_s": 5.0}
    store.write_json("evaluations/e/progress.json", said(facts={"sampling": asked}))
    store.write_json("studies/s/progress.json", said(phase="cells", facts={}))
    assert "step 12 of 40, loss 0.5, tokens_per_s 99, checkpoint at step 10" in shown(
        store, capsys, "t"
    )[1]  # fmt: skip
    code, text = shown(store, capsys)
    assert code == 0
    assert text.splitlines() == [
        "running     train    t: training, step 12 of 40",
        "running     evaluate e: sampling, 30 of 120 attempts",
        "running     study    s: cells",
    ]


def test_a_run_without_a_heartbeat(store: Store, capsys: pytest.CaptureFixture) -> None:
    store.write_json("runs/old/manifest.json", {"status": "done"})
    store.write_text("runs/odd/pool.json", "null")
    assert shown(store, capsys, "old")[0] == 0
    code, text = shown(store, capsys, "odd")
    assert code == 1 and "unknown" in text


def test_what_is_not_there_is_exit_code_2(store: Store, capsys: pytest.CaptureFixture) -> None:
    assert shown(store, capsys, "x") == (2, f"no run 'x' in {store.shown}\n")
    assert shown(store, capsys)[0] == 2
    assert main([]) == 2
    assert main(["s3://KEY:SECRET@b/x?odd=1", "y"]) == 2
    assert "SECRET" not in capsys.readouterr().err


def test_machines_read_json(store: Store, capsys: pytest.CaptureFixture) -> None:
    store.write_json("runs/x/progress.json", said())
    (one,) = json.loads(shown(store, capsys, "x", "--json")[1])
    assert one["status"] == "running" and one["logs"][PRINT]["attempts"] == 0
    assert one["facts"]["sampling"]["kept"] == 3 and one["silent_s"] < 60
