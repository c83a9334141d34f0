"""One driver at a time: the lease on a run's folder.

    <run>/lease/<time>-<token>.json        one file for each driver that wants the run

Two drivers on one run would delete each other's results. A driver writes a claim, lists the folder,
and holds the lease when no other live claim is there; both orders of two drivers that start at once
end with one holder, on any store whose listing shows what was written before it (local disks, S3,
Google Cloud Storage). A thread renews the claim. A claim whose process is gone, or that was not
renewed for STALE_S, is removed by the next driver.
"""

import logging
import os
import platform
import secrets
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Self

import psutil

from limo_ray.core.errors import LimoError
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

FOLDER = "lease"
RENEW_S = 5.0
STALE_S = 60.0  # a claim that was not renewed for so long belongs to a dead driver
POLL_S = 1.0


class LeaseError(LimoError):
    """Another driver works on the run, or took it over."""


@dataclass(kw_only=True, slots=True)
class Claim:
    """What a driver writes about itself. `started` tells its process from a later one of its id."""

    host: str
    pid: int
    started: float
    held: bool = False
    renewals: int = 0

    def process_is_gone(self) -> bool:
        """True only where it can be known: on the same host."""
        if self.host != platform.node():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True


class Lease:
    """The lease on one run, from `with` to the block's end.

    Raises:
        LeaseError: when another driver holds it. A driver that loses it (it was suspended for
            longer than STALE_S, and another one took over) is interrupted in its main thread, and
            leaves the block with this error.
    """

    def __init__(self, run: Store, name: str) -> None:
        self.run = run
        self.name = name
        self.lost = False
        self._file = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        self._claim = Claim(
            host=platform.node(), pid=os.getpid(), started=psutil.Process().create_time()
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        try:
            self._wait_for_others()
        except BaseException:
            self._release()
            raise
        self._claim.held = True
        self._write()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._release()
        if self.lost:
            raise LeaseError(f"{self.name}: another driver took this run over") from error

    def _wait_for_others(self) -> None:
        """Returns when no other live claim stands in the way; removes dead ones."""
        first_seen: dict[str, tuple[float, int]] = {}  # file -> our clock, renewals
        while True:
            ours_written, others = self._list()
            waiting = False
            for file, (written, claim) in others.items():
                since, renewals = first_seen.setdefault(file, (time.monotonic(), claim.renewals))
                silent = max(time.monotonic() - since, ours_written - written)
                if claim.process_is_gone() or (claim.renewals == renewals and silent > STALE_S):
                    log.warning("%s: the driver %s is gone: taking over", self.name, _who(claim))
                    self._delete(file)
                    continue
                alive = claim.host == self._claim.host or claim.renewals != renewals
                if alive and (claim.held or file < self._file):
                    raise LeaseError(
                        f"{self.name}: another driver works on this run ({_who(claim)}): wait "
                        "until it ends, stop it, or give this run another name"
                    )
                if not waiting and len(first_seen) == 1 and time.monotonic() - since < POLL_S:
                    log.warning(
                        "%s: the driver %s holds this run: looking for up to %.0f s whether it "
                        "is alive", self.name, _who(claim), STALE_S,
                    )  # fmt: skip
                waiting = True
            if not waiting:
                return
            time.sleep(POLL_S)

    def _list(self) -> tuple[float, dict[str, tuple[float, Claim]]]:
        """When our claim was written, and the other claims, by the store's own clock in seconds."""
        ours = 0.0
        others = {}
        for info in self.run.infos(FOLDER, ".json"):
            written = (info.mtime_ns or 0) / 1e9
            if info.base_name == self._file:
                ours = written
                continue
            found = self.run.read_json(f"{FOLDER}/{info.base_name}")
            if found is not None:  # released meanwhile
                others[info.base_name] = (written, Claim(**found))
        return ours, others

    def _keep_renewing(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                if self._taken_over():
                    self.lost = True
                    _interrupt_main_thread()
                    return
                self._claim.renewals += 1
                self._write()
            except OSError as error:
                log.warning("%s: lease not renewed (%s): will try again", self.name, error)

    def _taken_over(self) -> bool:
        """Whether another driver removed our claim, or holds the lease with a later one."""
        if not self.run.exists(f"{FOLDER}/{self._file}"):
            return True
        _, others = self._list()
        return self._claim.held and any(
            claim.held and file > self._file for file, (_, claim) in others.items()
        )

    def _write(self) -> None:
        self.run.write_json(f"{FOLDER}/{self._file}", asdict(self._claim))

    def _delete(self, file: str) -> None:
        self.run.delete(f"{FOLDER}/{file}")

    def _release(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * RENEW_S)  # it may wait for a store that is away
        with suppress(OSError):
            self._delete(self._file)


def _interrupt_main_thread() -> None:
    """Wakes it with a signal: it may sleep, or wait for Ray.

    Jobs turn SIGTERM into a KeyboardInterrupt. SIGINT, which Python does this for by itself, is
    ignored in what a script starts with `&`.
    """
    main = threading.main_thread().ident
    assert main is not None
    handled = callable(signal.getsignal(signal.SIGTERM))
    signal.pthread_kill(main, signal.SIGTERM if handled else signal.SIGINT)


def _who(claim: Claim) -> str:
    return f"pid {claim.pid} on {claim.host}"
