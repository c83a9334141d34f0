"""A worker of the verifier as its owner sees it: one pair handed over, one reply in time.

A worker is a small supervisor process of its own (`limo_ray.verify.worker`), a fresh interpreter
(no fork of a process with threads, no second import of the job's main script). It works each pair
out in a fork of itself, kills that fork when it runs over or when the owner is gone, and forks
again within milliseconds, with sympy already imported.
"""

import contextlib
import dataclasses
import json
import os
import select
import struct
import subprocess
import sys
import time

from limo_ray.core.records import Verdict
from limo_ray.verify.program_runner import CodeConfig

START_S = 120.0  # a worker that is not ready after this (imports on a busy machine) has failed
GRACE_S = 0.8  # the supervisor kills at the limit; this much later its reply is not waited for
LATE_S = 10.0  # a supervisor that is late even by this is killed


class WorkerProcess:
    """One supervisor process, started when first needed and again when it died."""

    def __init__(self, timeout_s: float, memory_mb: int, code: CodeConfig) -> None:
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.code = code
        self.process: subprocess.Popen[bytes] | None = None
        self.owes = False  # a reply that came too late to be waited for

    def start(self) -> None:
        """Start the process if there is none, and wait until it has imported what it needs."""
        if self.process is not None and self.process.poll() is None:
            return
        self.kill()
        for _ in range(2):  # one that is killed from outside while it starts is started again
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "limo_ray.verify.worker", str(self.memory_mb),
                    json.dumps(dataclasses.asdict(self.code)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                },
                start_new_session=True,  # a Ctrl-C is for the owner, which then closes its workers
            )  # fmt: skip
            reply = self._reply(START_S)
            if reply == "ready":
                return
            code = self.process.poll()
            self.kill()
            if reply is None:  # not ready in time
                break
        raise RuntimeError(f"the verifier's worker process did not start (exit code {code})")

    def verify(self, answer: str, extracted: str, domain: str) -> Verdict:
        """Have one pair worked out: its verdict, TIMEOUT past the limit, ERROR after a crash."""
        return Verdict(self._ask(answer, extracted, domain))

    def check_gold(self, answer: str, domain: str) -> str | None:
        """Have one gold answer looked at: why it cannot be used, or None."""
        reply = self._ask(answer, None, domain)
        if reply == Verdict.TIMEOUT.value:
            return f"its check took longer than {self.timeout_s:g} s"
        if reply == Verdict.ERROR.value:
            return "its check ended its process"
        reason: str | None = json.loads(reply)
        return reason

    def _ask(self, answer: str, extracted: str | None, domain: str) -> str:
        request = json.dumps([self.timeout_s, answer, extracted, domain]).encode()
        # A process that was killed from outside before it began is no fault of the pair: once more.
        if not self._begin(request) and not self._begin(request):
            return Verdict.ERROR.value
        reply = self._reply(self.timeout_s + GRACE_S)
        if reply:
            return reply
        if reply is None:  # starved on a busy machine: a new process would take longer still
            self.owes = True
            return Verdict.TIMEOUT.value
        self.kill()
        return Verdict.ERROR.value

    def _begin(self, request: bytes) -> bool:
        """Hand a request over; False when the process is gone or does not take it."""
        if self.owes and not self._reply(LATE_S):
            self.kill()
        self.owes = False
        self.start()
        assert self.process is not None and self.process.stdin is not None
        try:
            _write(self.process.stdin.fileno(), struct.pack(">I", len(request)) + request)
        except BrokenPipeError:
            self.kill()
            return False
        # The first request of a domain may import its library before the clock starts.
        if self._reply(START_S) == "started":
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End the process at once; its fork dies with it."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process, self.owes = None, False

    def _reply(self, seconds: float) -> str | None:
        """One line from the process; "" when it has ended, None when the time is over."""
        deadline = time.monotonic() + seconds
        assert self.process is not None and self.process.stdout is not None
        fd, line = self.process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            got = os.read(fd, 1)  # two short lines may be under way
            if not got:
                return ""
            line += got
        return line.decode().strip()


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
