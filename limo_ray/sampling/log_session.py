"""One sampler's session with the attempt logs: what they know, what it adds, what it cuts off."""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from limo_ray.attempts.index import AttemptIndex, KnownAttempts, merge_indexes
from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.attempts.partials import Partial, Partials
from limo_ray.core.records import Attempt
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store
from limo_ray.verify import Verdict

log = logging.getLogger(__name__)

GIVE_UP_S = 600.0  # a store that takes nothing for so long is down: the job stops


def _write_with_retries(write: Callable[[], None], times: int = 4) -> OSError | None:
    """Tries a write several times, within a second or so; returns the error of the last."""
    failure = None
    for number in range(times):
        time.sleep(0.2 * number)
        try:
            write()
            return None
        except OSError as error:
            failure = error
    return failure


class LogSession:
    """The attempt logs of a job's stages; methods name one by the stage's index.

    What a log holds is known from the index that the driver read at the job's start and from the
    parts that came since, which `refresh` reads. Attempts are written every `flush_s` seconds.
    """

    def __init__(
        self, store: Store, stages: Sequence[Stage], coordinator: Any, flush_s: float
    ) -> None:
        self.logs = [AttemptLog(store, stage.fingerprint) for stage in stages]
        self.partials = [Partials(store, stage.fingerprint) for stage in stages]
        self.writers = [LogWriter(each) for each in self.logs]
        self.flush_s = flush_s
        self.logged = self.durable = 0  # attempts handed over, and written
        self.written_at = time.time()  # when all was written for the last time
        self.failed: BaseException | None = None
        self._flushed = asyncio.Event()
        self._refreshing = threading.Lock()
        # at the job's start: arrays that all samplers of a node share; and what came since
        self._at_start: list[AttemptIndex] = []
        for stage in stages:
            offered = ray.get(coordinator.index.remote(stage.fingerprint))
            self._at_start.append(ray.get(offered[0]) if offered else merge_indexes([]))
        self._since = [merge_indexes([], index.parts) for index in self._at_start]
        self.refresh()

    def refresh(self) -> None:
        """Reads what others logged meanwhile, this process's predecessors among them."""
        with self._refreshing:
            for stage_index, each in enumerate(self.logs):
                since = self._since[stage_index]
                self._since[stage_index] = since.with_rows_of(each.read_index(skip=since.parts))
                self.partials[stage_index].load()

    def __len__(self) -> int:
        return sum(map(len, [*self._at_start, *self._since]))

    def known(self, stage_index: int, problem_id: str, judge: str) -> KnownAttempts:
        """What the log knows of a problem. The earlier row of an attempt counts, but for errors."""
        verdicts: dict[int, Verdict] = {}
        stale: set[int] = set()
        for index in (self._at_start[stage_index], self._since[stage_index]):
            known = index.known(problem_id, judge)
            stale |= known.stale
            for attempt_index, verdict in known.verdicts.items():
                if verdicts.get(attempt_index, Verdict.ERROR) is Verdict.ERROR:
                    verdicts[attempt_index] = verdict
        sound = {number for number, verdict in verdicts.items() if verdict is not Verdict.ERROR}
        return KnownAttempts(verdicts, stale - sound)

    def append(self, stage_index: int, attempt: Attempt) -> None:
        self.writers[stage_index].append(attempt)
        self.logged += 1

    def flush(self) -> None:
        """Writes what is pending in every log. Raises the first OSError, after trying them all."""
        failure: OSError | None = None
        for writer in self.writers:
            try:
                writer.flush()
            except OSError as error:
                failure = failure or error
        if failure:
            raise failure

    def final_flush(self) -> None:
        """Tries several times to write what is pending; a failure is logged, not raised."""
        if error := _write_with_retries(self.flush):
            lost = sum(len(writer.pending) for writer in self.writers)
            log.warning("attempt log not written (%s): %d attempts are lost", error, lost)

    def save_cut(self, cut: Sequence[tuple[int, Partial]]) -> None:
        """Writes completions that were cut off, by stage index, to be continued later."""
        for stage_index, partials in enumerate(self.partials):
            mine = [partial for cut_index, partial in cut if cut_index == stage_index]
            if error := _write_with_retries(functools.partial(partials.save, mine)):
                log.warning("%d partial completions not written: %s", len(mine), error)

    async def keep_flushing(self) -> None:
        """Flushes for ever. Raises OSError when the store took nothing for ten minutes."""
        failing = 0.0
        while True:
            await asyncio.sleep(self.flush_s)
            logged, begun = self.logged, time.time()
            try:
                await asyncio.to_thread(self.flush)
            except OSError as error:
                failing += self.flush_s
                log.warning("attempt log not written (%s): will try again", error)
                if failing > GIVE_UP_S:
                    raise
                continue
            failing = 0.0
            self.durable, self.written_at = logged, begun
            self._wake()

    def lag(self) -> float:
        """Seconds since everything was in the log, 0 while it is."""
        return time.time() - self.written_at if self.logged > self.durable else 0.0

    async def written(self) -> None:
        """Returns when everything logged so far is in the store, or the sampler has failed."""
        logged = self.logged
        while self.durable < logged and not self.failed:
            await self._flushed.wait()

    def fail(self, error: BaseException) -> None:
        """Ends the waiting for what will not be written."""
        self.failed = error
        self._wake()

    def _wake(self) -> None:
        self._flushed.set()
        self._flushed = asyncio.Event()
