"""Admission: a bounded number of requests in the engines, a bounded queue before them, draining."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limo_ray.serve import request_body
from limo_ray.serve.config import GateConfig
from limo_ray.serve.errors import ApiError
from limo_ray.serve.request_body import ClientDisconnected
from limo_ray.serve.request_context import RENDER, WITH_BODY, HttpMiddleware, RequestContext

log = logging.getLogger(__name__)


class AdmissionQueue:
    """Counts of the requests in this process; who may run. First in, first out."""

    def __init__(self, config: GateConfig) -> None:
        self.max_concurrent = config.max_concurrent
        self.capacity = config.max_concurrent + config.max_queue
        self.max_wait_s = config.max_wait_s
        self.draining = False
        self.open = 0  # requests of any kind
        self.with_body = 0  # of these: with a body, being read, waiting or running
        self.waiting = 0
        self.running = 0
        self._slots = asyncio.Semaphore(config.max_concurrent)
        self._idle = asyncio.Event()
        self._mean_s = 1.0  # moving average of a request's time in the engine

    @contextmanager
    def request(self, *, has_body: bool) -> Iterator[None]:
        """One request, from its arrival to its end; `drain` waits for it.

        Those with a body are bounded, which bounds queue and memory.

        Raises:
            ApiError: 503 while draining; 429, the queue is full.
        """
        if self.draining:
            raise ApiError(503, "the server is draining", code="draining", retry_after_s=5)
        if has_body and self.with_body >= self.capacity:
            raise ApiError(
                429, "the server is busy and its queue is full", code="queue_full",
                retry_after_s=self._wait_estimate_s(),
            )  # fmt: skip
        self.open += 1
        self.with_body += has_body
        self._idle.clear()
        try:
            yield
        finally:
            self.open -= 1
            self.with_body -= has_body
            if self.open == 0:
                self._idle.set()

    @asynccontextmanager
    async def slot(self, context: RequestContext) -> AsyncIterator[None]:
        """A running request's slot in the engines; waits for it.

        Raises:
            ApiError: 429, waited too long.
        """
        arrived = time.monotonic()
        self.waiting += 1
        try:
            async with asyncio.timeout(self.max_wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise ApiError(
                429, f"waited {self.max_wait_s:g} s in the queue", code="queue_timeout",
                retry_after_s=self._wait_estimate_s(),
            ) from None  # fmt: skip
        finally:
            self.waiting -= 1
            context.queue_s = time.monotonic() - arrived
        started = time.monotonic()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
            self._mean_s += 0.1 * (time.monotonic() - started - self._mean_s)

    async def drain(self, timeout_s: float) -> int:
        """Refuses new requests and waits for the open ones; returns how many were cut off."""
        self.draining = True
        if self.open:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("drain: %d requests had not ended after %g s", self.open, timeout_s)
        return self.open

    def _wait_estimate_s(self) -> float:
        """About how long the queue takes to empty: 1 to 60 s."""
        turns = (self.waiting + 1) / self.max_concurrent
        return min(60.0, max(1.0, turns * self._mean_s))


class Admission(HttpMiddleware):
    """Reads and checks the body, waits for a slot, runs the application until the client leaves.

    The parsed body is `scope["state"]["json"]`.
    """

    def __init__(self, app: ASGIApp, queue: AdmissionQueue, config: GateConfig) -> None:
        super().__init__(app)
        self.queue = queue
        self.config = config

    async def handle(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if context.is_open:
            await self.app(scope, receive, send)
            return
        has_body = context.method in WITH_BODY
        with self.queue.request(has_body=has_body):
            if not has_body:
                await self.app(scope, receive, send)
                return
            try:
                body = await request_body.read(context, receive, self.config)
            except ClientDisconnected:
                context.disconnected = True
                return
            context.body_bytes = len(body)
            scope["state"]["json"] = await request_body.parse(context, body, self.config)
            await self._run(context, scope, body, receive, send)

    async def _run(
        self, context: RequestContext, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Runs the application; a client that disconnects cancels it, which frees its slot."""
        running = anyio.CancelScope()
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        disconnect = asyncio.Event()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            disconnect.set()
            if not context.finished:
                context.disconnected = True
                running.cancel()

        async def replay() -> Message:
            if messages:
                return messages.pop()
            await disconnect.wait()
            return {"type": "http.disconnect"}

        watcher = asyncio.create_task(watch())
        try:
            with running:
                if context.path == RENDER:  # no work for an engine
                    await self.app(scope, replay, send)
                else:
                    async with self.queue.slot(context):
                        await self.app(scope, replay, send)
        finally:
            watcher.cancel()
