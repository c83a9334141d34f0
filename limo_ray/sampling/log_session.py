"""One sampler's side of the attempt log: what it knows of it, what it adds, what it cuts off."""

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


def _insist(write: Callable[[], None], times: int = 4) -> OSError | None:
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
    """The logs of a job's stages. `place` is a stage's place among them.

    What a log holds is known from the state that the driver folded at the job's start and the
    parts that came since: `refresh` reads those. Attempts are written every `flush_s` seconds.
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
        self._then: list[AttemptIndex] = []
        for stage in stages:
            offered = ray.get(coordinator.index.remote(stage.fingerprint))
            self._then.append(ray.get(offered[0]) if offered else merge_indexes([]))
        self._since = [merge_indexes([], index.parts) for index in self._then]
        self.refresh()

    def refresh(self) -> None:
        """Takes in what others logged meanwhile, this process's predecessors among them."""
        with self._refreshing:
            for place, each in enumerate(self.logs):
                since = self._since[place]
                self._since[place] = since.with_rows_of(each.read_index(skip=since.parts))
                self.partials[place].load()

    def __len__(self) -> int:
        return sum(map(len, [*self._then, *self._since]))

    def known(self, place: int, problem_id: str, judge: str) -> KnownAttempts:
        """What the log knows of a problem. Of a draw that is there twice the earlier row counts."""
        verdicts: dict[int, Verdict] = {}
        stale: set[int] = set()
        for index in (self._then[place], self._since[place]):
            prior = index.known(problem_id, judge)
            stale |= prior.stale
            for draw, verdict in prior.verdicts.items():
                if verdicts.get(draw, Verdict.ERROR) is Verdict.ERROR:
                    verdicts[draw] = verdict
        sound = {draw for draw, verdict in verdicts.items() if verdict is not Verdict.ERROR}
        return KnownAttempts(verdicts, stale - sound)

    def append(self, place: int, attempt: Attempt) -> None:
        self.writers[place].append(attempt)
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

    def flush_at_last(self) -> None:
        """The same where nothing is left to do about a failure: it is told, not raised."""
        if error := _insist(self.flush):
            lost = sum(len(writer.pending) for writer in self.writers)
            log.warning("attempt log not written (%s): %d attempts are lost", error, lost)

    def save_cut(self, cut: Sequence[tuple[int, Partial]]) -> None:
        """Writes the completions that were cut off, for whoever draws them next."""
        for place, partials in enumerate(self.partials):
            mine = [partial for where, partial in cut if where == place]
            if error := _insist(functools.partial(partials.save, mine)):
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
            self._tell()

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
        self._tell()

    def _tell(self) -> None:
        self._flushed.set()
        self._flushed = asyncio.Event()
