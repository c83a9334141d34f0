"""The verifier with a hard limit of time: easy pairs at once, hard ones where they can be killed.

    with Verifier(workers=2, timeout_s=5) as verifier:
        verdicts = verifier.verify_many([(answer, completion, "math"), ...])
        result = await verifier.averify(answer, completion)

Hard pairs go to `limo_ray.verify.worker_process`, whose processes start with the first of them.
"""

import asyncio
import contextlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from limo_ray.core.records import Verdict
from limo_ray.verify import code as programs
from limo_ray.verify.domains import easy, extract
from limo_ray.verify.judge import Judge, JudgeConfig
from limo_ray.verify.program_runner import CodeConfig
from limo_ray.verify.worker_process import WorkerProcess

REMEMBERED = 1_000  # characters of an extracted answer; verdicts on longer ones are not kept


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
        self._idle: queue.LifoQueue[WorkerProcess] = queue.LifoQueue()
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
                    self._idle.put(WorkerProcess(self.timeout_s, self.memory_mb, self.code))
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
    def _borrowed(self) -> "Iterator[WorkerProcess]":
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)
