"""The status file of a running job: `progress.json` in its folder, written every few seconds.

    with Heartbeat(run, "curate", config.name) as beat:
        beat.phase("pool")
        ...                         anything below may `tell("sampling", facts)`

`python jobs/status.py` reads it, from any machine, while the job runs and after it died: a file
that says "running" and is old belongs to a job that was killed. A heartbeat holds the run's lease:
a second driver of the same run is refused.
"""

import contextlib
import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from ray.exceptions import RayError

from limo_ray.core.errors import reason
from limo_ray.core.uris import redact
from limo_ray.runs import provenance
from limo_ray.runs.lease import Lease
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

FILE = "progress.json"
EVERY_S = 5.0
DEAD_S = 60.0  # a job that has not written for so long is taken for dead

Facts = Callable[[], dict[str, Any]]


class Heartbeat:
    """Writes a job's progress from a thread until its block ends, and then how it ended.

    Raises LeaseError where another driver works on the folder.
    """

    current: "Heartbeat | None" = None

    def __init__(self, folder: Store, kind: str, name: str) -> None:
        self.folder = folder
        self.state: dict[str, Any] = {
            "kind": kind, "name": name, "status": "running", "phase": "starting", "error": "",
            "started": time.time(), "at": time.time(), "every_s": EVERY_S,
            "host": platform.node(), "pid": os.getpid(), "command": provenance.command(),
            "facts": {},
        }  # fmt: skip
        self.sources: dict[str, Facts] = {}
        self.lease = Lease(folder, name)
        self._written = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.lease.__enter__()
        Heartbeat.current = self
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        Heartbeat.current = None
        self._stop.set()
        self._thread.join(timeout=2 * EVERY_S)  # it may wait for a cluster that is gone
        if not self.lease.lost:  # else the file is the other driver's
            self._write_end(error)
        self.lease.__exit__(kind, error, trace)

    def _write_end(self, error: BaseException | None) -> None:
        self.state["status"] = "done"
        if isinstance(error, KeyboardInterrupt):
            self.state["status"] = "interrupted"
        elif error is not None:
            self.state["status"] = "failed"
            self.state["error"] = redact(reason(error)) or type(error).__name__
        else:
            self._collect()
        self._write()

    def phase(self, name: str) -> None:
        """What the job does from now on."""
        self.state["phase"] = name
        self._write()

    def _beat(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._collect()
            self._write()

    def _collect(self) -> None:
        for name, facts in list(self.sources.items()):
            # what cannot be asked now (an actor that is gone) keeps its last word
            with contextlib.suppress(RayError):
                self.state["facts"][name] = facts()

    def _write(self) -> None:
        self.state["at"] = time.time()
        try:
            self.folder.write_json(FILE, self.state)
        except OSError as error:
            if self._written:
                log.warning("%s not written (%s): will try again", FILE, error)
            self._written = False
        else:
            self._written = True


def tell(name: str, facts: Facts) -> None:
    """Names what the running job's heartbeat is to ask for facts; without one nothing happens."""
    if Heartbeat.current is not None:
        Heartbeat.current.sources[name] = facts
