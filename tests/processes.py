"""Processes that a test started, and what they started; and what a job says that ended well."""

import contextlib
import os
import re
import secrets

import psutil


def use_fresh_token() -> None:
    """As guard_local_ray does: nobody else may run code in the Ray that this process starts."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def end(family: list[psutil.Process], patience_s: float = 5.0) -> None:
    """Waits until they are gone; a Ray whose driver was killed lingers, and is ended."""
    _, alive = psutil.wait_procs(family, timeout=patience_s)
    kill(alive)


def kill(family: list[psutil.Process]) -> None:
    """With SIGKILL, all at once; returns when they are gone."""
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)


# Ray's own errors have " E " after the time: [2026-11-27 21:02:31,616 E 15841 15841] ...
LOUD = re.compile(r"error|failed|traceback|constructor arguments|\d E \d", re.IGNORECASE)


def quiet(output: str) -> bool:
    """True for the output of a job without trouble; else names the lines that speak of some."""
    loud = [line for line in output.splitlines() if LOUD.search(line)]
    assert not loud, "\n".join(loud)
    return True
