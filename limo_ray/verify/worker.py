"""The verifier's worker process: `python -m limo_ray.verify.worker MEMORY_MB CODE`.

CODE is the config of programs as JSON; `limo_ray.verify.worker_process` is the owner.

It reads requests (4 bytes of length, then JSON [timeout_s, answer, extracted, domain]) and writes
two lines for each: "started", then a verdict; or, where `extracted` is null, why the gold answer
cannot be used (a JSON string, or null). The work is done in a fork, which has a limit of memory and
is killed with all it started when it runs over. The supervisor itself never touches an answer; it
has one thread, so that forking is safe, and has sympy imported, so that it is fast.
"""

import gc
import importlib
import json
import os
import resource
import select
import signal
import struct
import sys
import time

from limo_ray.core.records import Verdict
from limo_ray.verify import code
from limo_ray.verify.domains import FAILURES, hard, unverifiable
from limo_ray.verify.program_runner import CodeConfig
from limo_ray.verify.sandbox import die_with_parent, forbid

CLEAN_UP_S = 0.4
REASON = 300  # characters of a reason; with its escapes it fits one atomic write to a pipe
LOST = (Verdict.TIMEOUT.value, Verdict.ERROR.value)  # replies after which a fork is not used again
TASKS = 2_000  # a fork ends after this many pairs: sympy's caches grow
LIBRARY = {"math": "math_verify", "choice": "math_verify", "gym": "reasoning_gym"}


# The parser learns its grammar as it goes, and sympy imports as it goes: forks inherit both.
WARM_UP = (
    ("\\cos 2", "\\sin 2+\\log_2 8"),
    ("|x|", "\\frac{-3\\sqrt{2}}{2x}+x^{2}-e^{\\frac{1}{2}}"),
    ("(-\\infty, 2] \\cup [3, 5)", "\\left(1, \\frac{1}{2}\\right]"),
    ("\\{1, -2, \\sin x\\}", "x=1,\\ x=2.5\\text{ or }y=3"),
    ("\\begin{pmatrix} 1 & 2 \\\\ e & 4 \\end{pmatrix}", "(1, 2, e)"),
    ("-2 \\le x < 7", "x \\in [-2, 7)"),
    ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"),
)


class Fork:
    """A fork of the supervisor that works pairs out, one at a time."""

    def __init__(self, memory_mb: int, trusted: bool) -> None:
        self.trusted = trusted
        self.tasks = 0
        gc.freeze()
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        supervisor = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.requests)
            os.close(self.replies)
            die_with_parent()
            if os.getppid() != supervisor:
                os._exit(1)
            _serve(requests, replies, memory_mb, trusted)
            os._exit(0)
        os.close(requests)
        os.close(replies)

    def kill(self) -> None:
        """End the fork and reap it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.replies)


def _serve(requests: int, replies: int, memory_mb: int, trusted: bool) -> None:
    """The fork's life: read a request, write the reply."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as f:
            now = int(f.read().split()[0]) * resource.getpagesize()
        limit = now + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not trusted:
        forbid(None)
    peak_kb = _peak_kb()
    while (request := _read(requests)) is not None:
        seconds, answer, extracted, domain = json.loads(request)
        if extracted is None:
            os.write(replies, json.dumps(_unverifiable(answer, domain)).encode() + b"\n")
            continue
        verdict = hard(answer, extracted, domain, seconds)
        grown_mb = (_peak_kb() - peak_kb) / 1024
        if verdict is Verdict.WRONG and grown_mb > memory_mb / 4:
            # Deep in a library, an exception for want of memory may have passed for a "no".
            verdict = Verdict.ERROR
        os.write(replies, verdict.value.encode() + b"\n")


def _unverifiable(answer: str, domain: str) -> str | None:
    try:
        reason = unverifiable(answer, domain)
    except FAILURES as e:  # MemoryError too
        reason = f"its check failed: {type(e).__name__}: {e}"
    return reason and reason[:REASON]


def _peak_kb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "linux" else peak // 1024  # macOS counts bytes


def _read(fd: int) -> bytes | None:
    """One request, or None when the other end is closed."""
    head = _exactly(fd, 4)
    return None if head is None else _exactly(fd, struct.unpack(">I", head)[0])


def _exactly(fd: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(memory_mb: int) -> None:
    """Supervise until the owner closes the pipe or is gone."""
    owner = os.getppid()
    # Nothing that a library prints may end up between the replies.
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.dont_write_bytecode = True
    loaded = {"math_verify"}
    for gold, said in WARM_UP:
        hard(gold, said, "math")
    fork: Fork | None = None
    os.write(replies, b"ready\n")
    while True:
        ready, _, _ = select.select([requests], [], [], 1.0)
        if not ready:
            if os.getppid() != owner:
                break
            continue
        request = _read(requests)
        if request is None:
            break
        timeout_s, _, _, domain = json.loads(request)
        library = LIBRARY.get(domain)
        stale = fork is not None and (
            fork.tasks >= TASKS
            or fork.trusted != (domain == "code")
            or library not in (None, *loaded)
        )
        if fork is not None and stale:
            fork.kill()
            fork = None
        if library is not None and library not in loaded:
            importlib.import_module(library)
            loaded.add(library)
        if fork is None:
            fork = Fork(memory_mb, trusted=domain == "code")
        os.write(replies, b"started\n")
        # A program's run ends by itself at the limit, and cleans up: it is given the time for that.
        limit_s = timeout_s + (CLEAN_UP_S if domain == "code" else 0)
        reply = _ask(fork, request, limit_s, requests, owner)
        if reply is None or reply in LOST:
            fork.kill()
            fork = None
        if reply is None:
            break
        os.write(replies, reply.encode() + b"\n")
    if fork is not None:
        fork.kill()


def _ask(fork: Fork, request: bytes, limit_s: float, owner_pipe: int, owner: int) -> str | None:
    """The fork's reply, "timeout", or "error" when it died; None when the owner is gone."""
    deadline = time.monotonic() + limit_s
    fork.tasks += 1
    message = struct.pack(">I", len(request)) + request
    os.set_blocking(fork.requests, False)
    poll = select.poll()
    poll.register(fork.replies, select.POLLIN)
    poll.register(owner_pipe, 0)  # only its closing
    poll.register(fork.requests, select.POLLOUT)
    while (left := deadline - time.monotonic()) > 0:
        events = dict(poll.poll(min(1.0, left) * 1000))
        if owner_pipe in events or os.getppid() != owner:
            return None
        if fork.replies in events:
            reply = os.read(fork.replies, select.PIPE_BUF)
            return reply.decode().strip() if reply else Verdict.ERROR.value
        if message and fork.requests in events:
            try:
                message = message[os.write(fork.requests, message) :]
            except BrokenPipeError:
                return Verdict.ERROR.value
            if not message:
                poll.unregister(fork.requests)
    return Verdict.TIMEOUT.value


if __name__ == "__main__":
    code.use(CodeConfig(**json.loads(sys.argv[2])), checked=True)
    main(int(sys.argv[1]))
