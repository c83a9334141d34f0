"""The gate before the endpoint's routes: log, metrics, keys, limits, bodies, queue, errors.

    Gateway(config.gate, ready=engine_is_ready).application(routes)

All state is that of one process: with several ingress replicas the limits hold for each of them.
It knows nothing of Ray or of the engine.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limo_ray.serve import access_log, health, request_body
from limo_ray.serve.admission import AdmissionQueue
from limo_ray.serve.api_keys import ApiKeys
from limo_ray.serve.config import GateConfig
from limo_ray.serve.errors import ApiError, http_exception
from limo_ray.serve.metrics import ServeMetrics
from limo_ray.serve.request_context import RENDER, RequestContext

log = logging.getLogger(__name__)

LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")
RENDERS_PER_REQUEST = 10  # the page renders one answer in several pieces


class Gateway:
    """Keys, limits, queue, metrics. `queue.drain` ends it."""

    def __init__(
        self, config: GateConfig, *, ready: Callable[[], Awaitable[bool]], host: str = ""
    ) -> None:
        """
        Args:
            config: checked already.
            ready: whether the application can answer.
            host: that the server listens on, for the warning about missing keys.

        Raises:
            ValueError: the keys cannot be read.
        """
        self.config = config
        self.keys = ApiKeys(config.keys_file, config.keys_env)
        self.queue = AdmissionQueue(config)
        self.metrics = ServeMetrics(lambda: self.queue.running, lambda: self.queue.waiting)
        self.readiness = health.Readiness(ready)
        self.limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        access_log.set_up()
        if not self.keys.required and host not in LOCAL_HOSTS:
            log.warning(
                "no API keys: everybody who reaches %s may use this endpoint (gate.keys_file)", host
            )

    def application(self, routes: Sequence[BaseRoute]) -> Starlette:
        """The routes, and /health, /ready, /metrics, behind the gate."""
        return Starlette(
            routes=[*routes, *health.routes(self.queue, self.metrics, self.readiness)],
            middleware=[Middleware(Gate, self)],
            exception_handlers={HTTPException: http_exception},
        )

    def authenticate(self, context: RequestContext) -> None:
        """Finds the request's key; 401 without one, but for the page and the health checks."""
        header = context.headers.get(b"authorization")
        context.key = self.keys.find(None if header is None else header.decode("latin-1"))
        is_open = context.is_open and (self.config.metrics_open or context.path != "/metrics")
        if context.key is None and not is_open:
            raise ApiError(
                401,
                "no API key: send the header Authorization: Bearer <key>"
                if header is None
                else "this API key is not known",
                code="missing_api_key" if header is None else "invalid_api_key",
                headers={"www-authenticate": 'Bearer realm="limo_ray"'},
            )

    async def limit_rate(self, context: RequestContext) -> None:
        """Counts the request against its key's requests per minute; 429 over the limit."""
        key = context.key
        assert key is not None
        rpm = self.config.rpm if key.rpm is None else key.rpm
        if rpm == 0:
            return
        bucket = "requests"
        if context.path == RENDER:
            bucket, rpm = "renders", rpm * RENDERS_PER_REQUEST
        limit = RateLimitItemPerMinute(rpm)
        if not await self.limiter.hit(limit, bucket, key.name):
            window = await self.limiter.get_window_stats(limit, bucket, key.name)
            raise ApiError(
                429,
                f"the limit of {rpm} {bucket} per minute of this key is reached",
                code="rate_limit_exceeded",
                retry_after_s=window.reset_time - time.time(),
            )


class Gate:
    """The middleware: each request through the checks of a `Gateway`, to its answer or an error.

    Routes find `RequestContext` and the parsed body in `scope["state"]`, as `context` and `json`.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app = app
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there is no route for a websocket: Starlette closes it
            await self.app(scope, receive, send)
            return
        context = RequestContext.of(scope)
        scope.setdefault("state", {})["context"] = context
        try:
            await self._answer(context, scope, receive, context.recording(send))
        except asyncio.CancelledError:  # how Ray Serve reports a client that disconnected
            context.disconnected = True
            raise
        finally:
            context.end()
            self.gateway.metrics.record(context)
            access_log.write(context)

    async def _answer(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answers exceptions: an ApiError as it is, any other as a 500 whose cause is logged."""
        try:
            await self._admit(context, scope, receive, send)
            return
        except ApiError as error:
            self.gateway.metrics.refused.labels(error.code or "other").inc()
            answer = error
        except Exception:  # whatever it is: the client gets an answer, the log the traceback
            if context.disconnected:
                return
            log.exception("request %s failed", context.id)
            if context.started and not context.streaming:
                raise  # only closing the connection tells the client now
            answer = ApiError(500, f"internal error {context.id}", code="internal_error")
        if not context.started:
            await answer.response()(scope, receive, send)
        elif not context.finished:
            await send({"type": "http.response.body", "body": answer.event(), "more_body": False})

    async def _admit(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Checks key, rate and body, in this order, and waits for a slot in the engines."""
        gateway = self.gateway
        gateway.authenticate(context)
        if context.is_open:
            await self.app(scope, receive, send)
            return
        if context.has_body:
            await gateway.limit_rate(context)
        with gateway.queue.request(has_body=context.has_body):
            if not context.has_body:
                await self.app(scope, receive, send)
                return
            try:
                body = await request_body.read(context.headers, receive, gateway.config)
            except ClientDisconnect:
                context.disconnected = True
                return
            scope["state"]["json"] = await request_body.parse(context.headers, body, gateway.config)
            await self._run(context, scope, receive, send)

    async def _run(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Runs the application; a client that disconnects cancels it, which frees its slot."""
        running = anyio.CancelScope()
        disconnect = asyncio.Event()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            disconnect.set()
            if not context.finished:
                context.disconnected = True
                running.cancel()

        async def receive_disconnect() -> Message:
            await disconnect.wait()
            return {"type": "http.disconnect"}

        watcher = asyncio.create_task(watch())
        try:
            with running:
                if context.path == RENDER:  # no work for an engine
                    await self.app(scope, receive_disconnect, send)
                else:
                    async with self.gateway.queue.slot(context):
                        await self.app(scope, receive_disconnect, send)
        finally:
            watcher.cancel()
