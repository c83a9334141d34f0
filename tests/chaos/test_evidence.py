"""The chaos tests' own judgement: it sees what it is there to see."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from limo_ray.storage.store import Store
from tests.chaos.evidence import Findings, Loss, examine

PRINT = "f" * 16


def outcome(folder: Path, kept: str) -> Path:
    """A run directory whose ledger keeps one problem of two."""
    run = Store(str(folder)).within("runs/laptop")
    rows = [
        {"problem_id": name, "stage": "s", "reason": None if name == kept else "drop_easy"}
        for name in "ab"
    ]
    schema = pa.schema([(name, pa.string()) for name in ("problem_id", "stage", "reason")])
    run.write_table("ledger/part-0.parquet", pa.Table.from_pylist(rows, schema=schema))
    example = {"problem_id": kept, "messages": [{"content": text} for text in "sqc"]}
    run.write_table("examples.parquet", pa.Table.from_pylist([example]))
    run.write_json("manifest.json", {"sampling": [
        {"sampling": {"temperature": 0.7}, "fingerprint": PRINT}
    ]})  # fmt: skip
    return folder


def found(tmp_path: Path, lines: dict[str, str], losses=(), kept: str = "a") -> Findings:
    draws = tmp_path / "draws"
    draws.mkdir()
    for name, text in lines.items():
        (draws / f"{name}.log").write_text(text)
    store, plain = outcome(tmp_path / "store", kept), outcome(tmp_path / "plain", "a")
    return examine(store, plain, draws, list(losses), flush_s=1.0)


ONCE = f"b 0.7 a 0 10.0\nf 0.7 a 0 11.0\na {PRINT} a 0 11.1\nw {PRINT} a 0 12.0\n"


def test_a_quiet_run_is_sound(tmp_path: Path) -> None:
    findings = found(tmp_path, {"5-1": ONCE})
    assert findings.sound
    assert (findings.attempts, findings.repeated, findings.kept) == (1, 0, 1)


def test_a_logged_draw_that_begins_again_is_seen(tmp_path: Path) -> None:
    findings = found(tmp_path, {"5-1": ONCE, "6-1": "b 0.7 a 0 12.5\n"})
    assert not findings.sound
    assert len(findings.drawn_twice) == 1


@pytest.mark.parametrize("what", ["killed", "destroyed"])
def test_a_draw_that_was_lost_may_begin_again(tmp_path: Path, what: str) -> None:
    lines = {"5-1": f"b 0.7 a 0 10.0\nf 0.7 a 0 11.0\na {PRINT} a 0 11.1\n"}
    loss = Loss(kind="sampler", began=11.5, pids=[5])
    if what == "destroyed":
        lines["5-1"] = ONCE
        loss = Loss(kind="destroyed", began=13.0, draws=[(PRINT, "a", 0)])
    lines["6-1"] = f"b 0.7 a 0 20.0\nf 0.7 a 0 21.0\na {PRINT} a 0 21.1\nw {PRINT} a 0 22.0\n"
    findings = found(tmp_path, lines, [loss])
    assert findings.sound
    assert findings.repeated == 1
    assert findings.lost == ([("sampler", 1)] if what == "killed" else [])


def test_an_attempt_that_a_flush_left_out_is_seen(tmp_path: Path) -> None:
    flushes = f"w {PRINT} b 0 11.5\nw {PRINT} b 1 12.5\n"
    lines = {"5-1": f"b 0.7 a 0 10.0\nf 0.7 a 0 11.0\na {PRINT} a 0 11.1\n" + flushes}
    findings = found(tmp_path, lines, [Loss(kind="sampler", began=19.0, pids=[5])])
    assert findings.too_old == 1
    assert not findings.sound


def test_what_the_store_refused_may_be_older(tmp_path: Path) -> None:
    flushes = f"x {PRINT} a 0 11.2\nw {PRINT} b 0 11.5\nw {PRINT} b 1 12.5\n"
    lines = {"5-1": f"b 0.7 a 0 10.0\nf 0.7 a 0 11.0\na {PRINT} a 0 11.1\n" + flushes}
    findings = found(tmp_path, lines, [Loss(kind="sampler", began=19.0, pids=[5])])
    assert findings.sound
    assert findings.lost == [("sampler", 1)]


def test_what_was_with_the_verifier_is_counted_apart(tmp_path: Path) -> None:
    lines = {"5-1": "b 0.7 a 0 10.0\nf 0.7 a 0 11.0\n"}
    findings = found(tmp_path, lines, [Loss(kind="sampler", began=12.0, pids=[5])])
    assert (findings.unjudged, findings.lost) == (1, [("sampler", 0)])


def test_another_kept_set_is_seen(tmp_path: Path) -> None:
    assert not found(tmp_path, {"5-1": ONCE}, kept="b").sound
    assert json.loads((tmp_path / "store/runs/laptop/manifest.json").read_text())
