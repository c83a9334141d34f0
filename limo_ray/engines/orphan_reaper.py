"""Ends engine processes whose owner died, so that no GPU or core stays taken by an orphan.

An engine's worker processes outlive an owner that was killed with -9 or by the memory monitor.
The owner therefore writes a record of them; a watcher process
(`python -m limo_ray.engines.orphan_reaper RECORD`) waits
for the owner's end of a pipe to close and ends what the record names. When even the watcher
was killed, `reap_orphans` does the same at the next engine start on that node.

While the engine starts its processes are not known one by one: the record names the owner's
process group, where the owner leads one, as Ray's workers do.
"""

import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from limo_ray.core.errors import EngineError

log = logging.getLogger(__name__)


def records_folder() -> Path:
    """Per user and node, on local disk: process ids mean nothing elsewhere.

    Raises EngineError for a folder that others may write into: its path is easy to guess, and what
    lies in it names processes to end.
    """
    top = Path(tempfile.gettempdir()) / f"limo_ray-{os.getuid()}"
    for folder in (top, top / "engines"):
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
        others_write = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or others_write:
            raise EngineError(
                f"{folder} is no folder of this user's alone: remove it, or set TMPDIR to another"
            )
    return top / "engines"


def _identity(process: psutil.Process) -> list[float]:
    return [process.pid, process.create_time()]


def _alive(identity: list[float]) -> psutil.Process | None:
    """The process with this id and start time: an id that was given anew is another process."""
    try:
        process = psutil.Process(int(identity[0]))
        same = abs(process.create_time() - identity[1]) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


class Guard:
    """Ties the life of this process's children to its own; made before they are started."""

    def __init__(self) -> None:
        self.record = records_folder() / f"{os.getpid()}.json"
        self._write([])
        self.watcher = subprocess.Popen(
            [sys.executable, "-m", "limo_ray.engines.orphan_reaper", str(self.record)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the owner's group must not end the watcher
            cwd=Path(__file__).parents[2],
        )
        self.watcher.wait(timeout=120)  # it goes on as nobody's child: see below

    def name_children(self) -> None:
        """Records each child by itself, once all of them run."""
        self._write([_identity(child) for child in psutil.Process().children(recursive=True)])

    def _write(self, children: list[list[float]]) -> None:
        record = {"owner": _identity(psutil.Process()), "group": os.getpgrp(), "children": children}
        draft = self.record.with_suffix(".draft")
        draft.write_text(json.dumps(record))
        draft.replace(self.record)

    def release(self) -> None:
        """The children ended by themselves: there is nothing to watch any more."""
        self.record.unlink(missing_ok=True)
        if self.watcher.stdin:
            self.watcher.stdin.close()


def _group(content: dict[str, Any]) -> list[psutil.Process]:
    """Processes of the group that the dead owner led; none where the id is in use again."""
    group, owner = content.get("group", 0), content["owner"]
    if group != int(owner[0]):
        return []
    with contextlib.suppress(psutil.NoSuchProcess):  # the owner itself may be there as a zombie
        if abs(psutil.Process(group).create_time() - owner[1]) >= 1:
            return []
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                found.append(process)
    return found


def reap(record: Path) -> int:
    """Kills the children that a record names, if its owner is gone; returns how many."""
    try:
        content = json.loads(record.read_text())
    except (OSError, json.JSONDecodeError):
        return 0
    if _alive(content["owner"]):
        return 0
    children = [child for identity in content["children"] if (child := _alive(identity))]
    children += [each for each in _group(content) if each not in children]
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=10)
    record.unlink(missing_ok=True)
    return len(children)


def reap_orphans() -> int:
    """Ends the engine processes of every dead owner on this node; returns how many.

    What engines printed when they started is kept for a week.
    """
    for printed in records_folder().glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - printed.stat().st_mtime > 7 * 86_400:
                printed.unlink()
    ended = sum(reap(record) for record in records_folder().glob("*.json"))
    if ended:
        log.warning("ended %d engine processes whose owners had died", ended)
    return ended


if __name__ == "__main__":
    if os.fork():  # Ray ends the direct children of a worker together with it
        os._exit(0)
    sys.stdin.read()  # returns when the owner ends, however it ends
    owner_record = Path(sys.argv[1])
    if owner_record.exists():
        owner = json.loads(owner_record.read_text())["owner"]
        if process := _alive(owner):  # the pipe closes a moment before the process is gone
            psutil.wait_procs([process], timeout=10)
        reap(owner_record)
