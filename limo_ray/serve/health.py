"""GET /health (the process is alive), /ready (an engine can take a request), /metrics."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limo_ray.serve.admission import AdmissionQueue
from limo_ray.serve.metrics import ServeMetrics

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
TIMEOUT_S = 2.0
RETRY = {"retry-after": "5"}


class Readiness:
    """Whether the application can answer; remembered for a second: clients may ask often."""

    def __init__(
        self, ask: Callable[[], Awaitable[bool]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ask = ask
        self.clock = clock
        self._lock = asyncio.Lock()
        self._asked = -math.inf
        self._ready = False

    async def __call__(self) -> bool:
        async with self._lock:
            if self.clock() - self._asked >= INTERVAL_S:
                self._asked = self.clock()
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        self._ready = await self.ask()
                except Exception as error:  # asking replicas fails in many ways: not ready
                    log.warning("not ready: %s: %s", type(error).__name__, error)
                    self._ready = False
            return self._ready


def routes(queue: AdmissionQueue, metrics: ServeMetrics, readiness: Readiness) -> list[Route]:
    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        if queue.draining:
            return JSONResponse({"ready": False, "reason": "draining"}, 503, RETRY)
        if await readiness():
            return JSONResponse({"ready": True})
        return JSONResponse({"ready": False}, 503, RETRY)

    async def scrape(request: Request) -> Response:
        text, kind = metrics.text(with_keys=request.state.context.key is not None)
        return Response(text, media_type=kind)

    return [Route("/health", health), Route("/ready", ready), Route("/metrics", scrape)]
