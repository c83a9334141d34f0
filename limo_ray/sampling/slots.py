"""An engine and its request slots: which are open, and a new engine for one that died."""

import asyncio
import logging
import time
from collections.abc import Callable

from limo_ray.core.errors import EngineError
from limo_ray.engines import base as engines
from limo_ray.engines.base import Completion, Engine, EngineConfig, Request

log = logging.getLogger(__name__)


class EngineSlots:
    """At most `size` requests at a time for one engine, which starts when the first is needed.

    A slot belongs to an asyncio task, from `take` until its `generate` has ended, or the task has.
    All methods run in one event loop.
    """

    def __init__(
        self, config: EngineConfig, max_deaths: int, when_changed: Callable[[], None]
    ) -> None:
        """`when_changed` is called whenever a slot is free again."""
        self.config = config
        self.size = config.max_num_seqs + max(1, config.max_num_seqs // 16)  # a few wait inside
        self.engine: Engine | None = None
        self.max_deaths = max_deaths
        self.deaths = 0
        self.started = time.time()
        self._when_changed = when_changed
        self._taken: set[asyncio.Task[None] | None] = set()

    @property
    def open(self) -> int:
        """Slots that are taken."""
        return len(self._taken)

    @property
    def free(self) -> bool:
        return self.open < self.size

    @property
    def seconds(self) -> float:
        """Since the engine is up; 0 without one."""
        return time.time() - self.started if self.engine else 0.0

    async def start(self) -> Engine:
        """Starts an engine. Raises EngineError with the reason when it cannot."""
        self.engine = engine = engines.create(self.config)
        await engine.start()
        self.started = time.time()
        return engine

    def take(self, attempt: "asyncio.Task[None]") -> None:
        self._taken.add(attempt)
        attempt.add_done_callback(self._release)

    def _release(self, attempt: "asyncio.Task[None] | None") -> None:
        if attempt in self._taken:
            self._taken.remove(attempt)
            self._when_changed()

    async def generate(self, engine: Engine, request: Request) -> Completion | None:
        """A completion, or None if this engine died: the next `start` makes another.

        Raises:
            EngineError: it died more than `max_deaths` times.
        """
        try:
            return await engine.generate(request) if engine is self.engine else None
        except EngineError as error:
            if engine is self.engine:  # the first of its requests to fail
                self._bury(engine, error)
            return None
        finally:
            self._release(asyncio.current_task())

    def _bury(self, engine: Engine, error: EngineError) -> None:
        self.engine = None
        self.deaths += 1
        engine.shutdown()
        if self.deaths > self.max_deaths:
            raise EngineError(f"{error} ({self.deaths} times: giving up)") from error
        log.warning("engine failed: %s; restart %d of %d", error, self.deaths, self.max_deaths)

    async def cut_off(self) -> None:
        """Ends all open requests: each `generate` returns what it has, with the reason cut."""
        if self.engine is not None:
            await self.engine.cut_off()

    def shutdown(self) -> None:
        if self.engine is not None:
            self.engine.shutdown()
