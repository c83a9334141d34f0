"""A scripted OpenAI-like application to put behind a gate, and ways to knock at it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from limo_ray.serve.gate import Gate, GateConfig

KEY = "sk-alpha-0123456789abcdef"
CHAT = "/v1/chat/completions"
HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Chat(BaseModel):
    messages: list[dict[str, Any]]
    stream: bool = False
    max_tokens: int | None = None
    script: str = ""  # what shall go wrong
    seconds: float = 0.0


class Scripted:
    """The application, and what it saw."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.calls = 0
        self.inside = 0
        self.most = 0
        self.cancelled = 0
        self.order: list[str] = []
        self.opened = asyncio.Event()  # what "hold" waits for
        self.app.post(CHAT)(self.chat)

        @self.app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": "m"}]}

        @self.app.get("/v1/fail")
        def fail() -> None:
            raise HTTPException(418, "a teapot")

    async def chat(self, body: Chat, request: Request) -> Any:
        self.calls += 1
        self.order.append(str([m.get("content") for m in body.messages[:1]]))
        self.inside += 1
        self.most = max(self.most, self.inside)
        streams = False
        try:
            if body.script == "hold":
                await self.opened.wait()
            await asyncio.sleep(body.seconds)
            if body.script == "boom":
                raise RuntimeError("a secret of the engine")
            if body.script == "state":
                request.state.usage = {"prompt_tokens": 1, "completion_tokens": 2}
            if body.stream:
                streams = True
                return StreamingResponse(self.events(body), media_type="text/event-stream")
            answer = {"choices": [{"message": {"content": 'I say "usage": {"x": 1}'}}]}
            if body.script in ("state", "silent"):
                return answer
            return {**answer, "usage": {"prompt_tokens": 10, "completion_tokens": 30}}
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= not streams

    async def events(self, body: Chat) -> AsyncIterator[str]:
        try:
            for number in range(5):
                yield f'data: {{"choices": [{{"delta": {{"content": "{number}"}}}}]}}\n\n'
                if body.script == "break":
                    raise RuntimeError("a secret of the engine")
                if body.script == "endless":
                    await self.opened.wait()
            if body.script != "silent":
                yield 'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 5}}'
                yield "\n\n"
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1


def client(gate: Gate, key: str | None = None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(gate)
    return httpx.AsyncClient(transport=transport, base_url="http://gate", headers=headers)


def ask(gate: Gate, *requests: dict[str, Any], key: str | None = None) -> list[httpx.Response]:
    """The answers to `requests` (arguments of httpx), one after another."""

    async def run() -> list[httpx.Response]:
        async with client(gate, key) as http:
            return [
                await http.request(**{"method": "POST", "url": CHAT, **request})
                for request in requests
            ]

    return asyncio.run(run())


class Knock:
    """One request as bare ASGI: its pieces are put in by hand, its answer looked at as it comes."""

    def __init__(self, gate: Gate, path: str = CHAT, method: str = "POST", **headers: str) -> None:
        pairs = {"content-type": "application/json", **headers}.items()
        self.scope = {
            "type": "http", "method": method, "path": path, "query_string": b"",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in pairs],
        }  # fmt: skip
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.task = asyncio.ensure_future(gate(self.scope, self.messages.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def body(self, piece: bytes, more: bool = False) -> "Knock":
        self.messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})
        return self

    def hang_up(self) -> "Knock":
        self.messages.put_nowait({"type": "http.disconnect"})
        return self

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def text(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent)

    def header(self, name: str) -> str | None:
        found = [v.decode() for k, v in self.sent[0]["headers"] if k == name.encode()]
        return found[0] if found else None


async def until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """A real server on the loopback; its URL."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", backlog=1024)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(10)


def gated(app: Any, **config: Any) -> Gate:
    settings = GateConfig(**{"keys_env": "", **config})
    settings.check()
    return Gate(app, settings)
