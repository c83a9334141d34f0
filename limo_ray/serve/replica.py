"""A replica: one engine behind vLLM's own OpenAI layer, called by the ingress request by request.

vLLM's FastAPI routes run inside this process as an ASGI application without a server: what they
would send over a socket, `answer` yields over Ray. So requests, errors and streams are those of
`vllm serve`, apart from what `openai_extensions` adds before them and `budget_engine` below them.
"""

import asyncio
import json
import logging
import os
from argparse import Namespace
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

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
        from fastapi import FastAPI
        from vllm.entrypoints.openai.chat_completion import api_router as chat
        from vllm.entrypoints.openai.completion import api_router as completion
        from vllm.entrypoints.openai.models import api_router as listing
        from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

        from limo_ray.serve.budget_engine import ServedEngine

        self.config = config
        self.engine = ServedEngine(config.engine, config.budget.style)
        await self.engine.start()
        self.app = FastAPI(title="limo_ray", docs_url=None, redoc_url=None)
        for routes in (chat, completion, listing):
            routes.attach_router(self.app)
        init_exception_handler(self.app)
        await self._serving_state()
        self.running = 0

    async def _serving_state(self) -> None:
        """vLLM's own serving objects, made from the flags of its command line."""
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        config, llm = self.config, self.engine.llm
        flags = [
            "--model",
            model_files.resolve(config.model),
            "--served-model-name",
            config.model_name,
        ]
        args: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args(flags)
        args.structured_outputs_config = llm.vllm_config.structured_outputs_config
        if config.reasoning_parser:
            args.structured_outputs_config.reasoning_parser = config.reasoning_parser
        args.log_error_stack = False
        state = self.app.state
        await init_app_state(llm, state, args, await llm.get_supported_tasks())
        # vLLM's error handlers tell its server to stop when the engine is dead
        state.server = SimpleNamespace(should_exit=False)

    async def answer(self, call: ReplicaRequest) -> AsyncGenerator[ResponseChunk, None]:
        """One request's answer; closing the generator or cancelling it aborts it in the engine.

        Yields:
            ACCEPTED, ResponseStart, further bytes of the body, ResponseEnd.
        """
        yield ACCEPTED
        sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        gone = asyncio.Event()
        pending = [{"type": "http.request", "body": call.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if pending:
                return pending.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.put_nowait(message)

        scope = _scope(call)
        stride = max(1, min(self.config.stream_tokens, self.running // LIGHT_LOAD))
        if stride > 1 and call.stream:
            call.body = _strided(call.body, stride)
            pending[0]["body"] = call.body
        task = asyncio.create_task(self.app(scope, receive, send))
        task.add_done_callback(lambda _: sent.put_nowait(None))
        self.running += 1
        status, kind = 0, ""
        try:
            while (message := await sent.get()) is not None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    headers = {key.lower(): value for key, value in message["headers"]}
                    kind = headers.get(b"content-type", b"").decode("latin-1")
                    continue
                body = message.get("body", b"")
                while not sent.empty():
                    more = sent.get_nowait()
                    if more is None:  # the application is at its end: also of this loop's
                        sent.put_nowait(None)
                        break
                    body += more.get("body", b"")
                    message = more
                if status >= 500 and self._dead():
                    self._end()
                whole = not message.get("more_body", False)
                if whole:
                    await task
                if kind and whole:
                    yield ResponseStart(status, kind, body, True, _usage(scope))
                    return
                if kind:
                    yield ResponseStart(status, kind, body)
                    kind = ""
                elif body:
                    yield body
                if whole:
                    break
            await task
            yield ResponseEnd(_usage(scope))
        finally:
            self.running -= 1
            gone.set()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def load(self) -> dict[str, int]:
        """Requests in this replica, and sequences in its engine."""
        unfinished = self.engine.llm.output_processor.get_num_unfinished_requests()
        return {"requests": self.running, "sequences": unfinished}

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
        """Asked by Serve: raising replaces the replica."""
        if self._dead():
            self._end()

    def _dead(self) -> bool:
        return self.engine.llm.errored or not self.engine.llm.is_running

    def _end(self) -> None:
        """Without its engine a replica is nothing: its requests fail over, Serve starts another."""
        log.error("the engine died: ending this replica")
        self.engine.shutdown()
        os._exit(1)

    def __del__(self) -> None:
        if hasattr(self, "engine"):
            self.engine.shutdown()


def _scope(call: ReplicaRequest) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    if call.request_id:
        headers.append((b"x-request-id", call.request_id.encode("latin-1")))
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": call.method,
        "scheme": "http", "path": call.path, "raw_path": call.path.encode(), "query_string": b"",
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip


def _strided(body: bytes, stride: int) -> bytes:
    """The request with so many tokens to an event of its stream, unless it says how many itself."""
    request = json.loads(body)
    if "stream_interval" not in request:
        request["stream_interval"] = stride
    return json.dumps(request).encode()


def _usage(scope: dict[str, Any]) -> Usage:
    """What vLLM counted, which a stream does not tell its client unless asked to."""
    told = getattr(scope["state"].get("request_metadata"), "final_usage_info", None)
    return None if told is None else (told.prompt_tokens, told.completion_tokens or 0)
