"""Requests per minute of each key, checked before a body is read.

Counted by the library `limits` with a sliding window in this process: several ingress replicas
each have their own counts.
"""

import math
import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from limo_ray.serve.errors import ApiError
from limo_ray.serve.request_context import RENDER, WITH_BODY, HttpMiddleware, RequestContext

RENDERS_PER_REQUEST = 10  # the page renders one answer in several pieces


class RateLimits(HttpMiddleware):
    """429 with Retry-After over the limit; x-ratelimit headers, as OpenAI's, below it."""

    def __init__(self, app: ASGIApp, rpm: int) -> None:
        """
        Args:
            rpm: requests per minute of a key without a limit of its own; 0 for no limit.
        """
        super().__init__(app)
        self.rpm = rpm
        self.limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def handle(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if context.method in WITH_BODY:
            await self._count(context)
        await self.app(scope, receive, send)

    async def _count(self, context: RequestContext) -> None:
        key = context.key
        assert key is not None
        rpm = self.rpm if key.rpm is None else key.rpm
        if rpm == 0:
            return
        bucket = "requests"
        if context.path == RENDER:
            bucket, rpm = "renders", rpm * RENDERS_PER_REQUEST
        limit = RateLimitItemPerMinute(rpm)
        allowed = await self.limiter.hit(limit, bucket, key.name)
        window = await self.limiter.get_window_stats(limit, bucket, key.name)
        reset_s = max(0.0, window.reset_time - time.time())
        context.response_headers += [
            (b"x-ratelimit-limit-requests", str(rpm).encode()),
            (b"x-ratelimit-remaining-requests", str(window.remaining).encode()),
            (b"x-ratelimit-reset-requests", f"{math.ceil(reset_s)}s".encode()),
        ]
        if not allowed:
            raise ApiError(
                429,
                f"the limit of {rpm} {bucket} per minute of this key is reached",
                code="rate_limit_exceeded",
                retry_after_s=reset_s,
            )
