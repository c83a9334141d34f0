"""Whether the application can answer: asked seldom, however often somebody asks the gate."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

EVERY_S = 1.0
TIMEOUT_S = 5.0


class Readiness:
    """`await readiness()`; the answer of the last second is given again.

    /ready is open to everybody: without a memory each call of it would be one of every replica.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[bool]] | None, clock: Callable[[], float]
    ) -> None:
        """
        Args:
            ask: the application's own word; None for always ready.
            clock: seconds.
        """
        self.ask = ask
        self.clock = clock
        self._asked = -math.inf
        self._pending: asyncio.Task[bool] | None = None

    async def __call__(self) -> bool:
        if self.ask is None:
            return True
        if self._pending is None or (
            self._pending.done() and self.clock() - self._asked >= EVERY_S
        ):
            self._asked = self.clock()
            self._pending = asyncio.ensure_future(self._asking(self.ask))
        return await asyncio.shield(self._pending)  # one question for all who ask meanwhile

    async def _asking(self, ask: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return bool(await ask())
        except Exception as error:  # whatever it asks may fail in its own way: it is not ready
            log.warning("not ready: %s: %s", type(error).__name__, error)
            return False
