"""A scripted OpenAI-like application behind a gateway, and clients for it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from limo_ray.serve.config import GateConfig
from limo_ray.serve.gateway import Gateway
from limo_ray.serve.http_server import HttpServer, listening_socket

KEY = "sk-alpha-0123456789abcdef"
OTHER = "sk-beta-fedcba9876543210"
CHAT = "/v1/chat/completions"
HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Scripted:
    """The application, and what it saw. A request's field `script` says how it behaves."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.opened = asyncio.Event()  # what the scripts "hold" and "endless" wait for
        self.routes = [
            Route(CHAT, self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/fail", self.fail),
        ]

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "m"}]})

    async def fail(self, _: Request) -> Response:
        raise HTTPException(418, "a teapot")

    async def chat(self, request: Request) -> Response:
        body = request.state.json
        script = body.get("script")
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if script == "hold":
                await self.opened.wait()
            if script == "boom":
                raise RuntimeError("a secret of the engine")
            if body.get("stream"):
                return StreamingResponse(self.events(script), media_type="text/event-stream")
            request.state.context.usage = (10, 30)
            return JSONResponse({"usage": {"prompt_tokens": 10, "completion_tokens": 30}})
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def events(self, script: str | None) -> AsyncIterator[str]:
        try:
            for number in range(5):
                yield f'data: {{"choices": [{{"delta": {{"content": "{number}"}}}}]}}\n\n'
                if script == "break":
                    raise RuntimeError("a secret of the engine")
                if script == "endless":
                    await self.opened.wait()
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Endpoint:
    """Routes behind a gateway, as an ASGI application."""

    def __init__(self, routes: Sequence[BaseRoute], **config: Any) -> None:
        settings = GateConfig(**{"keys_env": "", **config})
        settings.check()
        self.ready = True
        self.gateway = Gateway(settings, ready=self._ready)
        self.queue = self.gateway.queue
        self.app = self.gateway.application(routes)

    async def _ready(self) -> bool:
        return self.ready

    @property
    def idle(self) -> bool:
        queue = self.queue
        return (queue.open, queue.with_body, queue.waiting, queue.running) == (0, 0, 0, 0)


def client(app: Any, key: str | None = None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


def ask(app: Any, *requests: dict[str, Any], key: str | None = None) -> list[httpx.Response]:
    """The answers to `requests` (arguments of httpx), one after another."""

    async def run() -> list[httpx.Response]:
        async with client(app, key) as http:
            return [
                await http.request(**{"method": "POST", "url": CHAT, **request})
                for request in requests
            ]

    return asyncio.run(run())


class AsgiRequest:
    """One request as bare ASGI: its body is sent by hand, its answer looked at as it comes."""

    def __init__(self, app: Any, path: str = CHAT, method: str = "POST", **headers: str) -> None:
        pairs = {"content-type": "application/json", **headers}.items()
        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in pairs],
        }  # fmt: skip
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.read = 0  # messages that the application took
        self.sent: list[dict[str, Any]] = []
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        message = await self.messages.get()
        self.read += 1
        return message

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def body(self, piece: bytes, more: bool = False) -> "AsgiRequest":
        self.messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})
        return self

    def hang_up(self) -> "AsgiRequest":
        self.messages.put_nowait({"type": "http.disconnect"})
        return self

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    def header(self, name: str) -> str | None:
        found = [v.decode() for k, v in self.sent[0]["headers"] if k == name.encode()]
        return found[0] if found else None


async def until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def listening(app: Any, **config: Any) -> Iterator[tuple[str, int]]:
    """The web server of jobs/serve.py on the loopback; its address."""
    listener = listening_socket("127.0.0.1", 0)
    server = HttpServer(app, GateConfig(**config), listener)
    while not server.server.started:
        assert server.thread.is_alive()
        time.sleep(0.01)
    try:
        yield listener.getsockname()[:2]
    finally:
        server.close()
