"""A replica: one engine behind vLLM's own OpenAI layer, called by the ingress request by request.

vLLM's FastAPI routes run inside this process as an ASGI application without a server: what they
would send over a socket, `answer` yields over Ray. So requests, errors and streams are those of
`vllm serve`, apart from what `openai_extensions` adds before them and `budget_engine` below them.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from limo_ray.serve import adapters, vllm_openai
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.openai_extensions import FIELDS, ReplicaRequest
from limo_ray.storage import model_files

log = logging.getLogger(__name__)

OFFERED = ("/v1/chat/completions", "/v1/completions", "/v1/models")
ACCEPTED = b""  # the first thing that `answer` yields: a replica has the request
LIGHT_LOAD = 4  # with fewer requests than twice these, streams go token by token

Usage = tuple[int, int] | None  # tokens of the prompt and of the completions, if counted


@dataclass(slots=True)
class ResponseStart:
    """The start of a response with what there was of its body by then: all of it, if `whole`."""

    status: int
    content_type: str
    body: bytes
    whole: bool = False
    usage: Usage = None


@dataclass(slots=True)
class ResponseEnd:
    """The end of a response that did not come at once."""

    usage: Usage


ResponseChunk = bytes | ResponseStart | ResponseEnd


class EngineReplica:
    """The engine of one replica. Started late, on its worker; a dead engine ends the replica."""

    async def __init__(self, config: ServeConfig) -> None:  # type: ignore[misc]
        from limo_ray.serve.budget_engine import ServedEngine

        self.config = config
        lora = adapters.read(config.adapters)
        self.engine = ServedEngine(config.engine, config.budget.style, lora)
        await self.engine.start()
        self.app = await vllm_openai.openai_app(
            self.engine.llm, model_files.resolve(config.model), config.model_name,
            config.reasoning_parser, lora,
        )  # fmt: skip
        self.running = 0

    async def answer(self, request: ReplicaRequest) -> AsyncGenerator[ResponseChunk, None]:
        """One request's answer; closing the generator or cancelling it aborts it in the engine.

        Yields:
            ACCEPTED, ResponseStart, further bytes of the body, ResponseEnd.
        """
        yield ACCEPTED
        interval = max(1, min(self.config.stream_tokens, self.running // LIGHT_LOAD))
        body = request.body
        if request.stream and interval > 1:
            body = _with_interval(body, interval)
        scope = _scope(request)
        status, content_type, started = 0, "", False
        self.running += 1
        try:
            async with aclosing(_messages(self.app, scope, body)) as messages:
                async for message in messages:
                    if message["type"] == "http.response.start":
                        status = message["status"]
                        headers = {key.lower(): value for key, value in message["headers"]}
                        content_type = headers.get(b"content-type", b"").decode("latin-1")
                        continue
                    if status >= 500 and self._dead():
                        self._end()
                    whole = not message["more_body"]
                    if started:
                        if message["body"]:
                            yield message["body"]
                        continue
                    started = True
                    usage = vllm_openai.response_usage(scope) if whole else None
                    yield ResponseStart(status, content_type, message["body"], whole, usage)
                    if whole:
                        return
            yield ResponseEnd(vllm_openai.response_usage(scope))
        finally:
            self.running -= 1

    async def load(self) -> dict[str, int]:
        """Requests in this replica, and sequences in its engine."""
        sequences = vllm_openai.unfinished_requests(self.engine.llm)
        return {"requests": self.running, "sequences": sequences}

    async def schema(self) -> dict[str, Any]:
        """OpenAPI of what is offered, with the fields of the thinking budget."""
        found = self.app.openapi()
        found["paths"] = {path: found["paths"][path] for path in OFFERED}
        for name in ("ChatCompletionRequest", "CompletionRequest"):
            found["components"]["schemas"][name]["properties"] |= {
                field: {
                    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}],
                    "title": field,
                }
                for field in FIELDS
            }
        return json.loads(json.dumps(found))

    def check_health(self) -> None:
        """Called by Serve: raising replaces the replica."""
        if self._dead():
            self._end()

    def _dead(self) -> bool:
        return self.engine.llm.errored or not self.engine.llm.is_running

    def _end(self) -> None:
        """Ends a replica without an engine: its requests fail over, Serve starts another."""
        log.error("the engine died: ending this replica")
        self.engine.shutdown()
        os._exit(1)

    def __del__(self) -> None:
        if hasattr(self, "engine"):
            self.engine.shutdown()


def _scope(request: ReplicaRequest) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    if request.request_id:
        headers.append((b"x-request-id", request.request_id.encode("latin-1")))
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": request.method, "path": request.path, "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip


def _with_interval(body: bytes, tokens: int) -> bytes:
    """The request with so many tokens to an event of its stream, unless it says how many itself."""
    request = json.loads(body)
    request.setdefault("stream_interval", tokens)
    return json.dumps(request).encode()


async def _messages(
    app: Any, scope: dict[str, Any], body: bytes
) -> AsyncGenerator[dict[str, Any], None]:
    """What an ASGI application sends, bodies that are there at once as one message.

    Raises what the application raises; closing the generator cancels the application.
    """
    sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    closed = asyncio.Event()
    received = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await closed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.put_nowait({"body": b"", "more_body": False} | message)

    task = asyncio.create_task(app(scope, receive, send))
    task.add_done_callback(lambda _: sent.put_nowait(None))
    try:
        while (message := await sent.get()) is not None:
            if message["type"] == "http.response.body":
                while not sent.empty():
                    more = sent.get_nowait()
                    if more is None:  # the end: also of this generator's own loop
                        sent.put_nowait(None)
                        break
                    message = more | {"body": message["body"] + more["body"]}
                if not message["more_body"]:
                    await task
            yield message
        await task
    finally:
        closed.set()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
