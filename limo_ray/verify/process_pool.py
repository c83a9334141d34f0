"""The verifier with a hard limit of time: easy pairs at once, hard ones where they can be killed.

    with Verifier(workers=2, timeout_s=5) as verifier:
        verdicts = verifier.verify_many([(answer, completion, "math"), ...])
        result = await verifier.averify(answer, completion)

A worker is a small supervisor process of its own (`limo_ray.verify.worker`), started with the first
hard pair as a fresh interpreter (no fork of a process with threads, no second import of the job's
main script). It works each pair out in a fork of itself, kills that fork when it runs over or when
the owner is gone, and forks again within milliseconds, with sympy already imported.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import queue
import select
import struct
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from limo_ray.core.records import Verdict
from limo_ray.verify import code as programs
from limo_ray.verify.domains import easy, extract
from limo_ray.verify.judge import Judge, JudgeConfig
from limo_ray.verify.program_runner import CodeConfig

START_S = 120.0  # a worker that is not ready after this (imports on a busy machine) has failed
REMEMBERED = 1_000  # characters of an extracted answer; verdicts on longer ones are not kept
GRACE_S = 0.8  # the supervisor kills at the limit; this much later its reply is not waited for
LATE_S = 10.0  # a supervisor that is late even by this is killed


class Verification(NamedTuple):
    """A verdict and the answer that was verified (None when the completion gives none)."""

    verdict: Verdict
    extracted: str | None


class Verifier:
    """Verifies completions with `workers` processes at most, `timeout_s` seconds for a hard pair.

    Use it as a context manager, from any thread, from asyncio, inside Ray tasks and actors. The
    last `cache` verdicts are kept, by (answer, extracted answer, domain). Where `judge` names an
    endpoint, `check` and `averify` ask it before they call an answer in words WRONG. A machine
    that lacks the walls which `code` asks for refuses the domain `code` with a VerificationError.
    """

    def __init__(
        self,
        workers: int = 1,
        timeout_s: float = 5.0,
        *,
        memory_mb: int = 2048,
        cache: int = 200_000,
        judge: JudgeConfig | None = None,
        code: CodeConfig | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        self.workers = workers
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.code = code or CodeConfig()
        self._judge = Judge(judge) if judge and judge.url else None
        self._size = cache
        self._cache: OrderedDict[tuple[str, str, str], Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes; pairs still waiting are cancelled."""
        if self._judge is not None:
            self._judge.close()
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, None
        if threads is None:
            return
        threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get_nowait().kill()

    def start(self) -> None:
        """Start all worker processes now, not with the first hard pairs, and wait for them."""
        self._pool()
        started = [self._idle.get() for _ in range(self.workers)]
        try:
            for worker in started:
                worker.start()
        finally:
            for worker in started:
                self._idle.put(worker)

    def check(
        self,
        answer: str,
        completion: str,
        domain: str = "math",
        *,
        complete: bool = True,
        question: str = "",
    ) -> Verification:
        """The verdict on one completion, with the answer that was verified.

        `complete=False`: the completion ran into a limit. `question` is for the judge endpoint.
        """
        result = self._quick(answer, completion, domain, complete)
        if not isinstance(result, Verification):
            result = Verification(self._submit(answer, result, domain).result(), result)
        if last_word := self._last_word(result, answer, domain):
            return Verification(
                last_word.judge(question, answer, result.extracted), result.extracted
            )
        return result

    async def averify(
        self,
        answer: str,
        completion: str,
        domain: str = "math",
        *,
        complete: bool = True,
        question: str = "",
    ) -> Verification:
        """`check` for asyncio: nothing that takes long holds up the event loop."""
        result = self._quick(answer, completion, domain, complete)
        if not isinstance(result, Verification):
            verdict = await asyncio.wrap_future(self._submit(answer, result, domain))
            result = Verification(verdict, result)
        if last_word := self._last_word(result, answer, domain):
            verdict = await last_word.ajudge(question, answer, result.extracted)
            return Verification(verdict, result.extracted)
        return result

    def _last_word(self, result: Verification, answer: str, domain: str) -> Judge | None:
        """The judge endpoint, where it has a say on a verdict of the rules."""
        if self._judge is None or result.verdict is not Verdict.WRONG:
            return None
        return self._judge if self._judge.cfg.rules_on(answer, domain) else None

    def verify_many(self, pairs: Iterable[Sequence[str]]) -> list[Verdict]:
        """Verdicts of (answer, completion, domain) triples, in order."""
        verdicts: list[Verdict | None] = []
        waiting: dict[tuple[str, str, str], tuple[Future[Verdict], list[int]]] = {}
        for i, (answer, completion, domain) in enumerate(pairs):
            result = self._quick(answer, completion, domain, True)
            if isinstance(result, Verification):
                verdicts.append(result.verdict)
                continue
            key = (answer, result, domain)
            if key not in waiting:
                waiting[key] = (self._submit(*key), [])
            waiting[key][1].append(i)
            verdicts.append(None)
        for future, indexes in waiting.values():
            for i in indexes:
                verdicts[i] = future.result()
        return [Verdict(v) for v in verdicts if v is not None]

    def unverifiable(self, answer: str, domain: str = "math") -> str | None:
        """Why a gold answer cannot be used, or None. One that takes too long cannot be used."""
        return self._pool().submit(self._check_gold, answer, domain).result()

    def clear(self) -> None:
        """Forget the cached verdicts."""
        with self._lock:
            self._cache.clear()

    def _quick(
        self, answer: str, completion: str, domain: str, complete: bool
    ) -> Verification | str:
        """What needs no worker, or the extracted answer of a hard pair."""
        extracted = extract(completion, domain, complete=complete)
        if extracted is None:
            return Verification(Verdict.UNPARSED, None)
        verdict = self._cache.get((answer, extracted, domain))
        if verdict is None:
            verdict = easy(answer, extracted, domain)
            if verdict is None:
                return extracted
            self._remember((answer, extracted, domain), verdict)
        return Verification(verdict, extracted)

    def _remember(self, key: tuple[str, str, str], verdict: Verdict) -> None:
        if len(key[1]) > REMEMBERED:
            return
        with self._lock:
            self._cache[key] = verdict
            if len(self._cache) > self._size:
                self._cache.popitem(last=False)

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Verifier is closed")
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.workers, "verifier")
                for _ in range(self.workers):
                    self._idle.put(_Worker(self.timeout_s, self.memory_mb, self.code))
            return self._threads

    def _submit(self, answer: str, extracted: str, domain: str) -> Future[Verdict]:
        return self._pool().submit(self._work_out, answer, extracted, domain)

    def _work_out(self, answer: str, extracted: str, domain: str) -> Verdict:
        if domain == "code":
            programs.check(self.code)
        with self._borrowed() as worker:
            verdict = worker.verify(answer, extracted, domain)
        if verdict is not Verdict.ERROR:
            self._remember((answer, extracted, domain), verdict)
        return verdict

    def _check_gold(self, answer: str, domain: str) -> str | None:
        with self._borrowed() as worker:
            return worker.check_gold(answer, domain)

    @contextlib.contextmanager
    def _borrowed(self) -> "Iterator[_Worker]":
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)


class _Worker:
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
