"""The ingress: what clients talk to. It holds no model and forwards requests to the replicas."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from limo_ray.serve import page
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.errors import ApiError
from limo_ray.serve.gateway import Gateway
from limo_ray.serve.openai_extensions import ReplicaRequest, replica_request
from limo_ray.serve.replica import OFFERED, ResponseChunk, ResponseEnd, ResponseStart
from limo_ray.serve.request_context import RequestContext

log = logging.getLogger(__name__)

EVENTS = "text/event-stream"
LOST = (
    ActorDiedError, ActorUnavailableError, RayActorError, ReplicaUnavailableError,
    DeploymentUnavailableError, grpc.RpcError,
)  # fmt: skip


class Ingress:
    """The routes behind a `Gateway`. Run one, so that limits are kept once."""

    def __init__(self, config: ServeConfig, replicas: Any) -> None:
        """
        Args:
            replicas: Serve's handle of the engines.
        """
        self.config = config
        self.replicas = replicas
        # by gRPC: a chunk of an answer as a Ray object costs several times its decoding
        self.streams = replicas and replicas.options(stream=True, _by_reference=False)
        self._schema: dict[str, Any] | None = None

    def __serve_build_asgi_app__(self) -> Any:
        """The whole of it as an ASGI application, for Serve and for jobs/serve.py."""
        routes = [
            *(Route(path, self.completions, methods=["POST"]) for path in OFFERED[:2]),
            Route("/v1/models", self.models),
            Route("/openapi.json", self.openapi),
            *page.routes(self.config.model_name),
        ]
        self.gateway = Gateway(self.config.gate, ready=self.ready, host=self.config.host)
        return self.gateway.application(routes)

    async def ready(self) -> bool:
        """Whether an engine can take a request."""
        return bool(await self.replicas.load.remote())

    async def drain(self) -> int:
        """Refuses new requests, waits for the open ones; returns how many were cut off."""
        return await self.gateway.queue.drain(self.config.drain_s)

    async def completions(self, request: Request) -> Response:
        context = request.state.context
        engine_request = replica_request(context.path, request.state.json, self.config, context.id)
        return await self._forward(engine_request, context)

    async def models(self, request: Request) -> Response:
        engine_request = ReplicaRequest("GET", "/v1/models", b"", " ")
        return await self._forward(engine_request, request.state.context)

    async def openapi(self, _: Request) -> Response:
        """The schema of requests and answers, as the engine has them."""
        if self._schema is None:
            self._schema = await self.replicas.schema.remote()
        return JSONResponse(self._schema)

    async def _forward(self, engine_request: ReplicaRequest, context: RequestContext) -> Response:
        """The answer of a replica; of another one if the first died before it answered anything."""
        for retry in (True, False):
            chunks = self._chunks(engine_request)
            try:
                start = await anext(chunks)
                break
            except LOST as lost:
                log.warning("a replica was lost before its answer: %s", type(lost).__name__)
                if not retry:
                    raise _unavailable("the replica that had this request died") from None
        assert isinstance(start, ResponseStart)
        streams = start.content_type.startswith(EVENTS)
        if streams and not start.body.startswith(b'data: {"error"'):
            return StreamingResponse(
                _events(start.body, chunks, context), start.status, media_type=start.content_type
            )
        context.usage = start.usage
        body = [start.body]
        async with aclosing(chunks):
            try:
                async for chunk in chunks:
                    if isinstance(chunk, ResponseEnd):
                        context.usage = chunk.usage
                    elif not streams:  # else the [DONE] of a stream that began with an error
                        assert isinstance(chunk, bytes)
                        body.append(chunk)
            except LOST:
                raise _unavailable("the replica died in the middle of its answer") from None
        if streams or start.status >= 400:
            raise _error(start, b"".join(body), engine_request, context)
        return Response(b"".join(body), start.status, media_type=start.content_type)

    async def _chunks(self, engine_request: ReplicaRequest) -> AsyncGenerator[ResponseChunk, None]:
        """What one replica yields, from the response's start on.

        Raises:
            ApiError: no replica took the request in time.
        """
        stream = self.streams.answer.remote(engine_request)
        try:
            async with asyncio.timeout(self.config.accept_s):
                await anext(stream)
        except TimeoutError:
            stream.cancel()
            raise _unavailable("no replica is ready") from None
        except BackPressureError as full:
            raise ApiError(429, str(full), code="queue_full", retry_after_s=5) from None
        done = False
        try:
            async for chunk in stream:
                yield chunk
            done = True
        finally:
            if not done:
                stream.cancel()


async def _events(
    first: bytes, chunks: AsyncGenerator[ResponseChunk, None], context: RequestContext
) -> AsyncGenerator[bytes, None]:
    """A stream's events; an error event where the replica dies."""
    async with aclosing(chunks):
        yield first
        try:
            async for chunk in chunks:
                if isinstance(chunk, ResponseEnd):
                    context.usage = chunk.usage
                else:
                    assert isinstance(chunk, bytes)
                    yield chunk
        except LOST:
            lost = ApiError(
                503, "the replica died in the middle of its answer", code="replica_lost"
            )
            yield lost.event() + b"data: [DONE]\n\n"


def _error(
    start: ResponseStart, body: bytes, engine_request: ReplicaRequest, context: RequestContext
) -> ApiError:
    """vLLM's error with OpenAI's type and code; also one with which a stream began."""
    status = start.status
    try:
        if body.startswith(b"data: "):
            body = body.split(b"\n", 1)[0].removeprefix(b"data: ")
            status = int(json.loads(body)["error"]["code"])
            status = status if 400 <= status < 600 else 500
        found = json.loads(body)["error"]
        message, param = str(found["message"]), found.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        status = max(status, 500) if status < 400 else status
        message, param = f"error {status} of the engine, request {context.id}", None
    if status == 500 and engine_request.constrained:
        # vLLM's grammar compilers fail in their own ways at schemas they cannot take
        return ApiError(400, "this schema or grammar cannot be used", code="invalid_value")
    code = {400: "invalid_value", 404: "model_not_found"}.get(status)
    return ApiError(status, message, code=code, param=param)


def _unavailable(message: str) -> ApiError:
    return ApiError(503, message, code="no_replica", retry_after_s=10)
