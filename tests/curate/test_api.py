"""Curations whose attempts an OpenAI-compatible server makes: what they cost, and the cap on it."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.core import config
from limo_ray.core.errors import SpendCapReached
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pipeline import curate
from limo_ray.engines.base import EngineConfig
from limo_ray.runs import status
from limo_ray.storage.store import Store
from tests.evaluate.server import Served

ROOT = Path(__file__).parents[2]
SCRIPTED = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.4, max_num_seqs=16, seed=3,
    script={"tokens": 60, "alpha": 9},  # few wrong answers: those take the verifier longest
)  # fmt: skip
SLOTS = 8
IN_FLIGHT = 9  # one more waits inside the engine


def answers(count: int) -> dict[str, str]:
    return {f"What is {n} + {n}?": str(2 * n) for n in range(count)}


def settings(pool: Path, store: Path, server: Served, *more: str) -> CurateConfig:
    source = json.dumps([{"path": str(pool), "question": "question", "answer": "answer"}])
    engine = {
        "kind": "api", "model": "scripted", "url": server.url, "device": "cpu", "num_cpus": 0.4,
        "max_num_seqs": SLOTS, "max_model_len": 4096,
        "api": {"wait_s": 0.02, "longest_wait_s": 0.1, "input_price": 100, "output_price": 1000},
    }  # fmt: skip
    return config.load(
        CurateConfig,
        [
            str(ROOT / "conf/curate/laptop.yaml"), f"sources={source}", f"store={store}",
            f"engines={{remote: {json.dumps(engine)}}}", "decontaminate.files=[]",
            "difficulty={weak: null, stop_after_kept: 0, suspicious: keep, strong: {engine: remote,"
            " rule: {budget: 1, keep_min: 1, keep_max: 1}, sampling: {max_tokens: 200}}}",
            "chains={teachers: [], reuse_strong: true}", "selection.k=10", "sampler.flush_s=0.2",
            *more,
        ],
    )  # fmt: skip


def pool_of(file: Path, questions: dict[str, str]) -> Path:
    rows = [json.dumps({"question": q, "answer": a}) + "\n" for q, a in questions.items()]
    file.write_text("".join(rows))
    return file


def dollars(server: Served) -> float:
    """By the server's own count, at the prices of `settings`."""
    return (100 * server.tokens["prompt"] + 1000 * server.tokens["completion"]) / 1e6


def test_the_spend_cap_stops_the_job_with_all_logged_and_the_report_adds_up(
    local_ray, tmp_path: Path
) -> None:
    questions = answers(1_000)
    pool, store = pool_of(tmp_path / "sums.jsonl", questions), tmp_path / "store"
    most = (100 * 9 + 1000 * 200) / 1e6  # of one answer
    with Served(SCRIPTED, questions, delay_s=0.01) as server:
        for cap in (5.0, 12.0):
            with pytest.raises(SpendCapReached, match=f"spent of \\${cap:.2f}"):
                curate(settings(pool, store, server, f"sampler.spend_cap={cap}"), "cpu")
            print(f"a cap of {cap}: {dollars(server):.2f} spent, {len(server.bodies)} answers")
            assert cap <= dollars(server) < cap + IN_FLIGHT * most
            [folder] = (store / "attempts").iterdir()
            log = AttemptLog(Store(str(store)), folder.name)
            assert log.tokens() == (server.tokens["prompt"], server.tokens["completion"])
            assert len(log.read_index()) == len(server.bodies) < 1_000
            [run] = status.runs(Store(str(store)))
            assert run["status"] == "failed"
            told = status.text(run | status.details(Store(str(store)), run))
            assert f"cost       ${dollars(server):.2f} spent of ${cap:.2f}" in told
        curate(settings(pool, store, server, "sampler.spend_cap=1000"), "cpu")
        assert server.asked == dict.fromkeys(questions, 1), "nothing was asked for twice"
    run_folder = store / "runs/laptop"
    manifest = json.loads((run_folder / "manifest.json").read_text())
    assert manifest["dollars"] == pytest.approx(dollars(server), abs=1e-9)
    assert manifest["sampling"][0]["dollars"] == manifest["dollars"]
    for page in ("report.html", "README.md"):
        assert f"cost ${dollars(server):,.2f}" in (run_folder / page).read_text()
    assert pq.read_table(run_folder / "examples.parquet").num_rows == 10
