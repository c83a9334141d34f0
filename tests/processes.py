"""Processes that a test started, and what they started."""

import contextlib

import psutil


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
