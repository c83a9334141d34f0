"""The access log: a line for each request, and its metrics. The outermost middleware."""

import asyncio
import logging
import os
import time
from logging.handlers import WatchedFileHandler

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limo_ray.serve.metrics import ServeMetrics
from limo_ray.serve.request_context import RequestContext

access = logging.getLogger("limo_ray.access")


def open_log(file: str) -> None:
    """Sends the access log to `file`, or to stderr if it has no handler yet. Twice is once.

    A file that is moved away (logrotate) is made anew.

    Raises:
        ValueError: the file cannot be written.
    """
    access.setLevel(logging.INFO)
    if not file:
        if access.hasHandlers():
            return
        handler: logging.Handler = logging.StreamHandler()
    else:
        path = os.path.abspath(file)
        if any(getattr(known, "baseFilename", None) == path for known in access.handlers):
            return
        try:
            handler = WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise ValueError(f"access_log: {file}: {error.strerror}") from None
        access.propagate = False
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access.addHandler(handler)


class AccessLog:
    """Makes each request's context; records what became of it."""

    def __init__(self, app: ASGIApp, metrics: ServeMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing below checks them
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        context = RequestContext.of(scope)
        scope.setdefault("state", {})["context"] = context

        async def record_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                headers = message["headers"]
                context.streaming = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in headers
                )
                own = (b"x-request-id", context.id.encode())
                message = {**message, "headers": [*headers, own, *context.response_headers]}
            elif message["type"] == "http.response.body":
                if context.first_byte_s is None:
                    context.first_byte_s = time.monotonic() - started
                context.finished = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, record_and_send)
        except asyncio.CancelledError:  # how Ray Serve reports a client that disconnected
            context.disconnected = True
            raise
        finally:
            self._record(context, time.monotonic() - started)

    def _record(self, context: RequestContext, total_s: float) -> None:
        key = context.key.name if context.key else "none"
        status = context.status or (499 if context.disconnected else 500)
        self.metrics.record(context, status, key, total_s)
        if not access.isEnabledFor(logging.INFO):
            return
        # a path or method of a client's making is written in ASCII, cut
        method, path = ascii(context.method[:10])[1:-1], ascii(context.path[:80])[1:-1]
        usage, first = context.usage, context.first_byte_s
        access.info(
            "%s %s %d%s key=%s%s wait=%.3fs%s total=%.3fs id=%s", method, path, status,
            " gone" if context.disconnected else "", key,
            f" in={usage[0]} out={usage[1]}" if usage else "", context.queue_s,
            "" if first is None else f" first={first:.3f}s", total_s, context.id,
        )  # fmt: skip
