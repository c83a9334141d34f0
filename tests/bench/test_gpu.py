"""The GPU checks at toy size, their time limit, and the table of their results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import endpoint, loop, models, run, training
from bench.gpu.table import lines, table
from limo_ray.core import config
from limo_ray.curate.config import CurateConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.rl.config import RLConfig
from limo_ray.serve.config import ServeConfig
from limo_ray.train import memory
from limo_ray.train.config import TrainConfig

ROOT = Path(__file__).parents[2]


def checks(out: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(
        ["bench/gpu/run.sh", *arguments, "--out", str(out)], cwd=ROOT, env=environment,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    shown = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, [json.loads(line) for line in shown]


@pytest.mark.process
def test_attention_loss_and_a_step_are_right(tmp_path: Path) -> None:
    code, found = checks(tmp_path, "--cpu", "attention", "loss", "step")
    assert code == 0, found
    assert {line["check"] for line in found} == {"attention", "loss", "step"}
    assert len([line for line in found if line["ok"]]) == 6
    assert "| step | loss of a packed row" in table(lines(tmp_path))


@pytest.mark.process
def test_a_check_that_hangs_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text(
        '#!/bin/sh\necho \'{"check": "loss", "what": "x", "value": 1, "unit": "", "ok": true}\'\n'
        "sleep 600\n"
    )
    (tmp_path / "python").chmod(0o755)
    found = run.run(run.Check("loss", "correctness", 60, 2), "cpu", tmp_path)
    assert [line.get("value") for line in found] == [1, None]
    assert found[1]["failed"] == "over 2 s"
    assert lines(tmp_path) == found  # what was known before is not lost


@pytest.mark.process
def test_without_a_gpu_every_check_is_skipped_by_name(tmp_path: Path) -> None:
    if run.has_gpu():
        pytest.skip("there is a GPU")
    code, found = checks(tmp_path)
    assert code == 0
    assert [line["check"] for line in found] == [check.name for check in run.CHECKS]
    assert {line["skipped"] for line in found} == {"no GPU"}


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_what_the_checks_tell_our_jobs_is_what_they_take(device: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "models/laptop").mkdir(parents=True)
    (tmp_path / "models/laptop/config.json").write_text("{}")
    schemas: dict[str, Any] = {
        "curate": CurateConfig, "train": TrainConfig, "evaluate": EvaluateConfig,
        "rl": RLConfig,
    }  # fmt: skip
    for job, told in loop.arguments(device, str(tmp_path)).items():
        config.load(schemas[job], [str(ROOT / f"conf/{job}/laptop.yaml"), *told])
    preset = tmp_path / "gpu.yaml"
    preset.write_text(endpoint.GPU_PRESET.format(model=tmp_path, cache=endpoint.CACHE))
    served = config.load(ServeConfig, [str(preset), f"model={tmp_path}"])
    assert served.engine.extra["load_format"] == "dummy"
    for case in run.TRAINED:
        shape, _, kind = case.partition("-")
        assert shape in models.SHAPES
        models.settings(tmp_path, shape, "cpu", **training.CHANGED.get(kind, {}))


@pytest.mark.parametrize("case", ["0.5b", "1.5b", "1.5b-whole", "3b", "3b-offload"])
def test_the_memory_plan_covers_what_a_gpu_measured(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = int(139.8 * 2**30)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (whole, whole))
    shape, _, kind = case.partition("-")
    models.model_config(shape).save_pretrained(tmp_path)
    settings = models.settings(tmp_path, shape, "gpu", **training.CHANGED.get(kind, {}))
    plan = memory.estimate(settings, "gpu", settings.pack_tokens)
    text = (ROOT / f"docs/benchmarks-gpu/h200/train-{case}.jsonl").read_text()
    figures = {line["what"]: line["value"] for line in map(json.loads, text.splitlines())}
    measured = figures["memory of the GPU"] * 2**30
    bare = plan.needed - plan.device["reserved"]
    assert bare < 1.05 * measured < 1.05 * plan.needed
    assert abs(sum(plan.host.values()) / (figures["memory of the host"] * 2**30) - 1) < 0.1 or (
        kind != "offload"
    )


def test_lines_of_the_servers_bench_are_understood() -> None:
    line = "streamed ours over vllm serve, tokens/s: 0.963 (0.86 to 1.04)"
    assert endpoint.RATIO.match(line)
    line = (
        "streamed ours           512 tokens/s (500 to 520), 0.31 CPU s per 1,000 tokens, "
        "first token after 0.12 s (95 %: 0.20 s)"
    )
    found = endpoint.SPEED.match(line)
    assert found and found[2] == "ours" and found[3] == "512"
    first = endpoint.FIRST.search(found[4])
    assert first and first[1] == "0.12"


def test_checks_are_functions_that_exist() -> None:
    for check in run.CHECKS:
        file = ROOT / "bench/gpu" / f"{check.module}.py"
        assert f"\ndef {check.name.partition('-')[0]}(" in file.read_text()


def test_the_table_shows_figures_failures_and_skips() -> None:
    found = [
        {"check": "machine", "card": "A GPU, 580.1", "versions": {"torch": "2.13"},
         "date": "2026-11-28", "commit": "abc", "command": "bench/gpu/run.sh", "machine": "x"},
        {"check": "zero", "what": "a|b", "value": 1.5, "unit": "s", "ok": False, "peer": 2,
         "peer_name": "stage 1"},
        {"check": "loss", "skipped": "no GPU"},
        {"check": "step", "failed": "over 60 s"},
    ]  # fmt: skip
    shown = table(found).splitlines()
    assert shown[0].startswith("A GPU, 580.1; torch 2.13")
    assert shown[6] == "| zero | a\\|b | 1.5 s | 2 (stage 1) | NO |"
    assert shown[7] == "| loss | skipped: no GPU |  |  |  |"
    assert shown[8] == "| step | failed: over 60 s |  |  | NO |"


def test_a_broken_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results"):
        lines(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"check": "a"}\n{"che')
    with pytest.raises(ValueError, match=r"a\.jsonl:2"):
        lines(tmp_path)
