"""The whole plan: its command, its mistakes, and its forecast against what a run then did."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limo_ray.cli import job
from limo_ray.core import config
from limo_ray.core.text import duration
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pipeline import curate
from limo_ray.plan.config import PlanConfig
from limo_ray.plan.job import Plan, outline, plan
from limo_ray.report.plan_table import count, span

ROOT = Path(__file__).parent.parent.parent
LAPTOP = [str(ROOT / "conf/curate/laptop.yaml"), str(ROOT / "conf/plan/laptop.yaml")]
LIMO = [str(ROOT / "conf/curate/limo.yaml"), "pool_rows=1000000"]
NAMES = ("weak", "strong", "qwq", "r1")
SMALL = [*LIMO, "trials=10", *(f"engines.{name}.max_num_seqs=8" for name in NAMES)]


def command(*argv: str) -> int:
    return job.main("curate", PlanConfig, plan, outline, [*argv], needs_ray=lambda _: False)


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said, without what the Ray of other tests may have to say just then."""
    lines = capsys.readouterr().err.splitlines(keepends=True)
    return "".join(line for line in lines if "(raylet)" not in line)


def planned(*argv: str) -> Plan:
    return plan(config.load(PlanConfig, [*argv]))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([*LIMO, "cluster.nodes.spot.price_per_hour=-3"],
         ["cluster.nodes.spot.price_per_hour", "-3"]),
        ([*LIMO, "pool_rows=0"], ["pool_rows", "0"]),
        ([LIMO[0]], ["pool_rows", "10_000_000"]),
        ([*LIMO, "assume.speeds.big.one=3"], ["assume.speeds.big", "is none of weak, strong"]),
        ([*LIMO, "engines.weak.model=my/model"], ["assume.speeds.weak", "my/model"]),
        ([*LIMO, "engines.weak.max_num_seqs=8", "assume.speeds.weak={one: 10, full: 900}"],
         ["assume.speeds.weak", "8 sequences"]),
        ([*LIMO, "cluster.nodes.spot.gpu=4"], ["cluster.nodes.spot.gpu", "did you mean gpus"]),
        ([*LIMO, "assume.stages.weak.alpha=0"], ["assume.stages.weak.alpha", "0"]),
        ([*LIMO, "method=flow"], ["method", "unknown key"]),
        ([*LIMO, "assume.live_share=1.5"], ["assume.live_share", "1.5"]),
        ([*LIMO, "assume.odds_error=0.5"], ["assume.odds_error", "at least 1"]),
        ([*LIMO, "assume.speeds.weak={one: 10, full: 5}"], ["assume.speeds.weak.full", "5"]),
        ([*LIMO, "trials=0"], ["trials", "0"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*argv) == 2
    told = errors(capsys)
    assert told.count("\n") == 1
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([*LIMO, "cluster.nodes.spot.gpus=4", "cluster.nodes.gpu.count=0"], ["r1", "8, 8 GPU(s)"]),
        ([*LIMO, "engines.strong.min_replicas=60"], ["cluster.nodes", "60 replica(s)", "strong"]),
        ([*LAPTOP, "pilot=nowhere"], ["pilot", "nowhere"]),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_line(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*argv) == 1
    told = errors(capsys)
    assert told.count("\n") == 1
    for word in words:
        assert word in told


def test_dry_run_plans_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*LIMO, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "pool_rows: 1000000" in told
    assert "strong: 16 of at most 64 replica(s) on 4 node(s) of type spot" in told
    assert "bottleneck" not in told


def test_a_plan_of_the_laptop(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*LAPTOP, "trials=20") == 0
    told = capsys.readouterr().out
    for words in ("1,100 rows", "weak", "strong", "SmolLM2-135M-Instruct", "bottleneck"):
        assert words in told
    found = planned(*LAPTOP, "trials=20").figures
    for name in ("attempts", "tokens", "seconds"):
        assert f"{span(found[name], duration if name == 'seconds' else count)}  " in told
    assert (sum(stage["tokens"] for stage in found["stages"]) == found["tokens"]).all()
    assert not found["cost"].any()


def test_the_laptop_is_forecast_within_a_quarter() -> None:
    """Medians against a run on two quiet cores: 364 s, 2,422 attempts, 175,187 tokens."""
    found = planned(*LAPTOP).figures
    assert np.median(found["sampling_s"]) == pytest.approx(364, rel=0.25)
    assert np.median(found["attempts"]) == pytest.approx(2422, rel=0.25)
    assert np.median(found["tokens"]) == pytest.approx(175_187, rel=0.25)


@pytest.mark.process
def test_ten_million_rows_take_seconds_and_little_memory() -> None:
    code = (
        "import re, sys; from tests.plan.test_job import command; rc = command(*sys.argv[1:]); "
        # not ru_maxrss: that of the process it was forked from counts there too
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read()); "
        "print('MiB', int(peak[1]) // 1024); sys.exit(rc)"
    )
    argv = [LIMO[0], "pool_rows=10_000_000", "difficulty.stop_after_kept=0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "10,000,000 rows" in done.stdout or "10M rows" in done.stdout
    assert int(done.stdout.rpartition("MiB ")[2]) < 600


def test_money_follows_prices_and_hours() -> None:
    cheap = planned(*SMALL).figures
    dear = planned(*SMALL, "cluster.nodes.spot.price_per_hour=50").figures
    strong, dearer = (
        next(stage for stage in found["stages"] if stage["name"] == "strong")
        for found in (cheap, dear)
    )
    assert strong["cost"] == pytest.approx(strong["gpu_hours"] / 8 * 25, rel=0.01), (
        "two GPUs of eight cost a quarter of a node"
    )
    assert dearer["cost"] == pytest.approx(2 * strong["cost"])
    assert (cheap["standing_cost"] > 0).all(), "the head is there all the time"
    assert (dear["seconds"] == cheap["seconds"]).all()
    costs = sum(stage["cost"] for stage in cheap["stages"]) + cheap["pool"]["cost"]
    assert cheap["cost"] == pytest.approx(costs + cheap["standing_cost"])


def test_an_apis_bill_follows_its_prices() -> None:
    preset = [str(ROOT / "conf/curate/api.yaml"), "pool_rows=20000", "trials=10"]
    free = [f"cluster.nodes.{name}.price_per_hour=0" for name in ("head", "cpu", "spot", "gpu")]
    figures = planned(*preset, *free, "assume.prompt_tokens=300").figures
    for stage in figures["stages"]:
        expected = (0.28 * 300 * stage["attempts"] + 0.42 * stage["tokens"]) / 1e6
        assert stage["cost"] == pytest.approx(expected)
    assert figures["cost"] == pytest.approx(sum(stage["cost"] for stage in figures["stages"]))
    assert figures["cost"].min() > 0


def test_what_a_plan_warns_of() -> None:
    few = planned(*SMALL, "pool_rows=3000")
    assert "the target of 2,125 is reached in 0% of the trials" in "\n".join(few.warnings)
    assert "warning: the target" in few.summary()
    assert not planned(*LAPTOP, "trials=10").warnings
    early = planned(*LAPTOP, "trials=10", "difficulty.stop_after_kept=3").figures
    assert early["engines"][0]["within"].mean() < 0.7, "tokens past the last keeper"


# Against a run


def sums(folder: Path, begin: int, count: int) -> Path:
    file = folder / f"sums-{begin}.jsonl"
    rows = [
        {"question": f"What is {n} + {n}?", "answer": 2 * n} for n in range(begin, begin + count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def settings(pool: Path, store: Path, *more: str) -> list[str]:
    source = json.dumps([{"path": str(pool), "question": "question", "answer": "answer"}])
    return [
        LAPTOP[0], f"sources={source}", f"store={store}", "engines.smollm2.kind=scripted",
        "engines.smollm2.num_cpus=0.5", "engines.smollm2.max_num_seqs=16", "sampler.flush_s=0.2",
        "engines.smollm2.script={seconds_per_token: 0.002, alpha: 0.5, beta: 0.8}",
        "difficulty.weak.sampling.temperature=1", "selection.k=10", "decontaminate.files=[]",
        "near.drop=false", *more,
    ]  # fmt: skip


def sampled(store: Path) -> tuple[int, int, int]:
    """Attempts in the log, those of them at problems that count as sampled, and all tokens."""
    stages = json.loads((store / "runs/laptop/manifest.json").read_text())["sampling"]
    attempts = sum(sum(stage["verdicts"].values()) for stage in stages)
    used = sum(stage["attempts"]["used"] for stage in stages)
    return attempts, used, sum(stage["tokens"]["completion"] for stage in stages)


@pytest.fixture(scope="module")
def pilot(local_ray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of 250 problems, all of them sampled."""
    folder = tmp_path_factory.mktemp("pilot")
    asked = settings(sums(folder, 0, 250), folder / "store", "difficulty.stop_after_kept=0")
    curate(config.load(CurateConfig, asked), "cpu")
    return folder / "store/runs/laptop"


@pytest.mark.parametrize("wanted", [0, 100])
def test_a_run_does_what_its_pilot_forecasts(pilot: Path, tmp_path: Path, wanted: int) -> None:
    """Other problems than the pilot's, three times as many: within 25 %."""
    asked = settings(
        sums(tmp_path, 10_000, 750), tmp_path / "run", f"difficulty.stop_after_kept={wanted}"
    )
    plan_of_it = planned(
        *asked, LAPTOP[1], "pool_rows=750", "trials=50", f"pilot={pilot}",
        "assume.speeds.smollm2={one: 500, full: 8000}",
    )  # fmt: skip
    found = plan_of_it.figures
    assert all(stage["basis"] == "pilot" for stage in found["stages"])
    assert "speed" not in "".join(plan_of_it.warnings), "the pilot has its engine's speed"
    curate(config.load(CurateConfig, asked), "cpu")
    attempts, used, tokens = sampled(tmp_path / "run")
    if wanted:  # how far engines get beyond the last keeper is a matter of time: not here
        within = found["attempts"] * found["engines"][0]["within"]
        assert used == pytest.approx(np.median(within), rel=0.25)
        assert (found["kept"] == wanted).all()
    else:
        assert attempts == pytest.approx(np.median(found["attempts"]), rel=0.25)
        assert tokens == pytest.approx(np.median(found["tokens"]), rel=0.25)
