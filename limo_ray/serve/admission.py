"""Admission: a bounded number of requests in the engines, a bounded queue before them, draining."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from limo_ray.serve.config import GateConfig
from limo_ray.serve.errors import ApiError
from limo_ray.serve.request_context import RequestContext

log = logging.getLogger(__name__)

RETRY_S = 5


class AdmissionQueue:
    """Counts of the requests in this process; who may run. First in, first out."""

    def __init__(self, config: GateConfig) -> None:
        self.capacity = config.max_concurrent + config.max_queue
        self.max_wait_s = config.max_wait_s
        self.draining = False
        self.open = 0  # requests of any kind
        self.with_body = 0  # of these: with a body, being read, waiting or running
        self._slots = anyio.CapacityLimiter(config.max_concurrent)

    @property
    def running(self) -> int:
        return self._slots.borrowed_tokens

    @property
    def waiting(self) -> int:
        return self._slots.statistics().tasks_waiting

    @contextmanager
    def request(self, *, has_body: bool) -> Iterator[None]:
        """One request, from its arrival to its end; `drain` waits for it.

        Those with a body are bounded, which bounds queue and memory.

        Raises:
            ApiError: 503 while draining; 429, the queue is full.
        """
        if self.draining:
            raise ApiError(503, "the server is draining", code="draining", retry_after_s=RETRY_S)
        if has_body and self.with_body >= self.capacity:
            message = "the server is busy and its queue is full"
            raise ApiError(429, message, code="queue_full", retry_after_s=RETRY_S)
        self.open += 1
        self.with_body += has_body
        try:
            yield
        finally:
            self.open -= 1
            self.with_body -= has_body

    @asynccontextmanager
    async def slot(self, context: RequestContext) -> AsyncIterator[None]:
        """A running request's slot in the engines; waits for it.

        Raises:
            ApiError: 429, waited too long.
        """
        arrived = time.monotonic()
        try:
            async with asyncio.timeout(self.max_wait_s):
                await self._slots.acquire()
        except TimeoutError:
            message = f"waited {self.max_wait_s:g} s in the queue"
            raise ApiError(429, message, code="queue_timeout", retry_after_s=RETRY_S) from None
        finally:
            context.queue_s = time.monotonic() - arrived
        try:
            yield
        finally:
            self._slots.release()

    async def drain(self, timeout_s: float) -> int:
        """Refuses new requests and waits for the open ones; returns how many were cut off."""
        self.draining = True
        end = time.monotonic() + timeout_s
        while self.open and time.monotonic() < end:
            await asyncio.sleep(min(0.1, timeout_s))
        if self.open:
            log.warning("drain: %d requests had not ended after %g s", self.open, timeout_s)
        return self.open
