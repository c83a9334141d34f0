"""Processes that a test started, and what they started."""

import psutil


def end(family: list[psutil.Process], patience_s: float = 5.0) -> None:
    """Waits until they are gone; a Ray whose driver was killed lingers, and is ended."""
    _, alive = psutil.wait_procs(family, timeout=patience_s)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=30)
