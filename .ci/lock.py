"""Pins what pyproject.toml asks for: requirements.txt, and cluster/requirements-gpu.txt.

    python .ci/lock.py [--upgrade]        needs uv

requirements.txt has all but the extra gpu, with vLLM's CPU build instead, and with hashes: what
`make setup` installs with --no-deps. Versions stay as they are unless a bound moved or --upgrade
is given. limo_ray/cli/setup.py says which packages are left out.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from limo_ray.cli.setup import (  # noqa: E402
    ENGINE,
    LEFT_OUT,
    MODEL_NEEDS,
    SMALL_MODEL,
    TORCH,
    engine_needs,
)

CPU, GPU = ROOT / "requirements.txt", ROOT / "cluster/requirements-gpu.txt"
TORCH_NEEDS = ("networkx",)  # and what others need as well
UV = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header",
      "--python-version", "3.11"]  # fmt: skip


def compiled(*arguments: str, known: str, wanted: str = "") -> str:
    """What uv resolves; versions in `known`, a lock file's text, go before newer ones."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "wanted.in").write_text(wanted)
        (Path(folder) / "left_out.txt").write_text("\n".join(LEFT_OUT))
        lock = Path(folder) / "lock.txt"
        lock.write_text(known)
        paths = [argument.replace("FOLDER", folder) for argument in arguments]
        subprocess.run([*UV, *paths, "-o", str(lock), *sys.argv[1:]], check=True, cwd=ROOT)
        return lock.read_text()


def blocks(lock: str) -> list[str]:
    """The packages of a lock file, each with its hashes."""
    return [block for block in re.split(r"\n(?=\w)", lock.strip()) if "==" in block]


def main() -> None:
    text = compiled(
        "pyproject.toml", "FOLDER/wanted.in", "--extra=dev", "--extra=docs", "--generate-hashes",
        "--excludes=FOLDER/left_out.txt", known=CPU.read_text(),
        wanted="\n".join([*engine_needs(), *MODEL_NEEDS, *TORCH_NEEDS]),
    )  # fmt: skip
    alone = compiled("FOLDER/wanted.in", "--no-deps", "--generate-hashes", known="",
                     wanted="\n".join([TORCH, ENGINE, SMALL_MODEL]))  # fmt: skip
    cpu = "\n".join(sorted([*blocks(text), *blocks(alone)]))
    CPU.write_text(
        "# Made by `make lock` from pyproject.toml; installed with --no-deps by `make setup`.\n"
        + cpu + "\n"
    )  # fmt: skip
    pins = re.findall(r"^\S+==\S+", cpu, re.M)
    names = [pin.partition("==")[0] for pin in pins]
    pins += [pin for pin in blocks(GPU.read_text()) if pin.partition("==")[0] not in names]
    text = compiled(
        "pyproject.toml", "FOLDER/wanted.in", "--extra=gpu", "--extra=train", "--extra=serve",
        "--python-platform=x86_64-manylinux_2_31", known="\n".join(pins),
        wanted="\n".join(MODEL_NEEDS),
    )  # fmt: skip
    GPU.write_text(
        "# Made by `make lock` from pyproject.toml: what the image of GPU nodes installs\n"
        "# (cluster/Dockerfile), with --no-deps.\n"
        + "\n".join(sorted([*blocks(text), SMALL_MODEL])) + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
