"""What made a result: the machine, the versions, the commit, the command. For every manifest."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import ray

from limo_ray import __version__
from limo_ray.core.uris import redact


def machine() -> dict[str, Any]:
    """What this run had to work with: the whole Ray cluster's CPUs and GPUs."""
    have = ray.cluster_resources() if ray.is_initialized() else {}
    return {
        "cpus": int(have.get("CPU", os.cpu_count() or 0)),
        "gpus": int(have.get("GPU", 0)),
        "nodes": len(ray.nodes()) if ray.is_initialized() else 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """limo_ray, Python, and those of the packages that are installed."""
    found = {"limo_ray": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that this code runs from, if it is one."""
    try:
        shown = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return shown.stdout.strip() or None


def command() -> str:
    """The command line, with the interpreter's bare name and without credentials."""
    return redact(" ".join([Path(sys.executable).name, *sys.argv]))
