"""An OpenAI-compatible server that answers as the scripted engine does, with faults on demand.

    with Served(ENGINE, ANSWERS) as server: ... server.url, server.bodies

It runs in a thread of its own. What an engine of our own would complete for a question's draw 0, it
completes too, so that evaluations of both must come to the same scores.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web

from limo_ray.core.records import Problem, problem_id
from limo_ray.engines.base import EngineConfig, Request, SamplingConfig
from limo_ray.engines.scripted import ScriptedEngine

Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
# takes the number of a request (from 1) and its body, gives what comes in place of the answer
Trouble = Callable[[int, dict[str, Any]], web.Response | Misbehaviour | None]


async def cut_connection(request: web.Request) -> web.StreamResponse:
    """Half of a reply, then the connection is gone."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def drip_feed(request: web.Request) -> web.StreamResponse:
    """A byte of white space every 10 ms, for ever: no single read takes long."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def endless(request: web.Request) -> web.StreamResponse:
    """White space as fast as it goes, for ever."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


def completion(**changes: Any) -> web.Response:
    """A reply whose message, choice or usage is another than that of the engine."""
    message = {"role": "assistant", "content": "1"} | changes.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | changes.pop("choice", {})
    usage = {"prompt_tokens": 9, "completion_tokens": 1} | changes.pop("usage", {})
    return web.json_response({"choices": [choice], "usage": usage} | changes)


class Served:
    """The server, as a context manager."""

    def __init__(
        self,
        engine: EngineConfig,
        answers: dict[str, str],
        *,
        trouble: Trouble | None = None,
        key: str = "",
        about: dict[str, Any] | None = None,
        delay_s: float = 0.0,
        thinking: bool = False,
    ) -> None:
        """`answers`: gold answers by question."""
        self.engine = ScriptedEngine(engine)
        self.answers = answers
        self.trouble = trouble or (lambda number, body: None)
        self.key = key
        self.about = {"id": "scripted", "object": "model", "max_model_len": 4096} | (about or {})
        self.delay_s = delay_s
        self.thinking = thinking
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.tokens: Counter[str] = Counter()  # of the answers given: prompt, completion
        self.at_once = self.most_at_once = self.aborted = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def asked(self) -> Counter[str]:
        """How often each question was answered or refused."""
        return Counter(body["messages"][-1]["content"] for body in self.bodies)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        self.add_routes(app)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    def add_routes(self, app: web.Application) -> None:
        """For servers that do more."""

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        return None

    async def _models(self, request: web.Request) -> web.Response:
        refused = self._refused(request)
        return refused or web.json_response(
            {"object": "list", "data": [self.about | {"created": int(time.time())}]}
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        self.bodies.append(body)
        number = len(self.bodies)
        self.times.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
            troubled = self.trouble(number, body)
            if isinstance(troubled, web.Response):  # can be sent only once: this is a copy
                return web.Response(
                    status=troubled.status, headers=troubled.headers, body=troubled.body
                )
            if troubled is not None:
                return await troubled(request)
            return web.json_response(self._complete(body))
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        finally:
            self.at_once -= 1

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        question = body["messages"][-1]["content"]
        problem = Problem(
            id=problem_id(question), question=question, answer=self.answers[question], source=""
        )
        drawn = self.engine._completion(
            Request(
                problem=problem, index=0, prompt=[],
                sampling=SamplingConfig(max_tokens=body["max_tokens"]),
            )
        )  # fmt: skip
        self.tokens.update(prompt=9, completion=drawn.completion_tokens)
        message: dict[str, Any] = {"role": "assistant", "content": drawn.text}
        if self.thinking:
            thought, _, answer = drawn.text.partition(".")
            message |= {"reasoning": thought, "content": answer}
        return {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": drawn.finish_reason}],
            "usage": {"prompt_tokens": 9, "completion_tokens": drawn.completion_tokens},
        }
