"""The Serve application: an ingress (the gate, the page, the routes) before replicas of the engine.

    serve run limo_ray.serve.app:build_app preset=conf/serve/laptop.yaml model=store/models/laptop

Arguments are those of jobs/serve.py: `preset`, and config keys like `engine.max_num_seqs=8`.
"""

import asyncio
import json
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
import ray
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)

from limo_ray.core import config as configs
from limo_ray.engines.base import ray_options
from limo_ray.serve import openai_extensions, page
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.errors import Refusal, encode, error
from limo_ray.serve.gate import Gate
from limo_ray.serve.openai_extensions import Call
from limo_ray.serve.replica import OFFERED, Head, Part, Replica, Tail

log = logging.getLogger(__name__)

QUIET = {"log_level": "WARNING", "enable_access_log": False}  # the gate has a log of its own
EVENTS = "text/event-stream"
PREFIX_ROUTER = "ray.serve.llm.request_router:PrefixCacheAffinityRouter"
LOST = (
    ActorDiedError, ActorUnavailableError, RayActorError, ReplicaUnavailableError,
    DeploymentUnavailableError, grpc.RpcError,
)  # fmt: skip


def build_app(args: dict[str, Any]) -> serve.Application:
    """The application that `serve run`, `serve deploy` and KubeRay start.

    Args:
        args: `preset`, a path or several separated by commas; all else are keys of the config.

    Raises:
        ConfigError: in one line.
    """
    presets = [path for path in str(args.get("preset", "")).split(",") if path]
    keys = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in args.items()
        if key != "preset"
    ]
    config = configs.load(ServeConfig, [*presets, *keys])
    gpus = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0
    return application(config, "gpu" if gpus else "cpu")


def application(config: ServeConfig, device: str) -> serve.Application:
    """The application of a config, its engines on `device` (gpu or cpu) unless it says another."""
    deploy: Any = serve.deployment
    return deploy(
        serve.ingress()(Ingress),
        name="Ingress",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100_000,  # the gate counts them
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=QUIET,
    ).bind(config, engines(config, device))


def engines(config: ServeConfig, device: str) -> serve.Application:
    """The replicas alone, for an ingress that runs elsewhere (see limo_ray.serve.http_server)."""
    if config.engine.device == "auto":
        config.engine.device = device
    engine = config.engine
    options: dict[str, Any] = {}
    if engine.bundles:
        options["placement_group_bundles"] = [dict(bundle) for bundle in engine.bundles]
        options["placement_group_strategy"] = engine.bundle_strategy
        if engine.labels:
            selectors = [dict(engine.labels)] * len(engine.bundles)
            options["placement_group_bundle_label_selector"] = selectors
    if engine.max_replicas > engine.min_replicas:
        options["autoscaling_config"] = AutoscalingConfig(
            min_replicas=engine.min_replicas, max_replicas=engine.max_replicas,
            target_ongoing_requests=max(1.0, config.scale_at * config.slots),
        )  # fmt: skip
    else:
        options["num_replicas"] = engine.min_replicas
    if config.routing == "prefix" and engine.max_replicas > 1:
        options["request_router_config"] = RequestRouterConfig(
            request_router_class=PREFIX_ROUTER,  # type: ignore[arg-type]
            request_router_kwargs={"imbalanced_threshold": config.slots / 2, "do_eviction": True},
        )
    deploy: Any = serve.deployment
    return deploy(
        Replica,
        name="Replica",
        ray_actor_options=ray_options(engine),
        # The gate bounds what is inside, the engine queues what it cannot decode yet: so a request
        # that no replica takes has none to take it.
        max_ongoing_requests=config.gate.max_concurrent + config.slots,
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=QUIET,
        health_check_period_s=2,
        health_check_timeout_s=60,
        max_constructor_retry_count=config.starts,
        **options,
    ).bind(config)


class Ingress:
    """What clients talk to. Holds no model; one replica of it, so that limits are kept once."""

    def __init__(self, config: ServeConfig, replicas: Any) -> None:
        self.config = config
        self.replicas = replicas
        # by gRPC: a piece of an answer as a Ray object costs several times its decoding
        self.streams = replicas and replicas.options(stream=True, _by_reference=False)
        self._schema: dict[str, Any] | None = None

    def __serve_build_asgi_app__(self) -> Any:
        """The whole of it as an ASGI application; Serve calls this, and `front` does."""
        app: Any = FastAPI(title="limo_ray", docs_url=None, redoc_url=None, openapi_url=None)
        for path in OFFERED[:2]:
            app.add_api_route(path, self.completions, methods=["POST"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/openapi.json", self.openapi, methods=["GET"])
        app.add_exception_handler(Refusal, _refused)
        page.mount(app, self.config.model_name)
        self.gate = Gate(app, self.config.gate, ready=self.ready, host=self.config.host)
        return self.gate

    async def ready(self) -> bool:
        """Whether an engine can take a request."""
        async with asyncio.timeout(2):
            return bool(await self.replicas.load.remote())

    async def drain(self) -> int:
        """Lets nobody in any more; returns how many requests were still there at the end."""
        return await self.gate.drain(self.config.drain_s)

    async def completions(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refusal(400, "the body must be a JSON object", reason="body")
        name = getattr(request.state, "request_id", "")
        return await self._forward(
            openai_extensions.call(request.url.path, body, self.config, name), request
        )

    async def models(self, request: Request) -> Response:
        return await self._forward(Call("GET", "/v1/models", b"", " "), request)

    async def openapi(self) -> Response:
        """The schema of requests and answers, as the engine has them."""
        if self._schema is None:
            self._schema = await self.replicas.schema.remote()
        return JSONResponse(self._schema)

    async def _forward(self, call: Call, request: Request) -> Response:
        """The answer of a replica; of another one if the first died before it said anything."""
        for again in (True, False):
            parts = self._parts(call)
            try:
                head = await anext(parts)
                break
            except LOST as lost:
                log.warning("a replica was lost before its answer: %s", type(lost).__name__)
                if not again:
                    raise _unavailable("the replica that had this request died") from None
        assert isinstance(head, Head)
        if head.content_type.startswith(EVENTS) and head.body.startswith(b'data: {"error"'):
            head = _unstarted(head)
        if head.status == 500 and call.constrained:
            # vLLM's grammar compilers fail in their own ways at schemas they cannot take
            head.status = 400
            head.body = encode(error(400, "this schema or grammar cannot be used"))
        if head.status >= 400:
            head.body = _told(head)
        if head.content_type.startswith(EVENTS):
            return StreamingResponse(
                _events(head.body, parts, request), head.status, media_type=head.content_type
            )
        request.state.usage = head.usage
        body = [head.body]
        async with aclosing(parts):
            try:
                async for part in parts:
                    if isinstance(part, Tail):
                        request.state.usage = part.usage
                    elif head.status < 400:  # else an unstarted stream's [DONE]
                        assert isinstance(part, bytes)
                        body.append(part)
            except LOST:
                raise _unavailable("the replica died in the middle of its answer") from None
        return Response(b"".join(body), head.status, media_type=head.content_type)

    async def _parts(self, call: Call) -> AsyncGenerator[Part, None]:
        """What one replica yields, from the head on.

        Raises:
            Refusal: no replica took the request in time.
        """
        stream = self.streams.answer.remote(call)
        try:
            async with asyncio.timeout(self.config.accept_s):
                await anext(stream)
        except TimeoutError:
            stream.cancel()
            raise _unavailable("no replica is ready") from None
        except BackPressureError as full:
            raise Refusal(429, str(full), reason="queue", retry_after=5) from None
        done = False
        try:
            async for part in stream:
                yield part
            done = True
        finally:
            if not done:
                stream.cancel()


async def _events(
    first: bytes, parts: AsyncGenerator[Part, None], request: Request
) -> AsyncGenerator[bytes, None]:
    """A stream's events; one that tells of the error where the replica dies."""
    async with aclosing(parts):
        yield first
        try:
            async for part in parts:
                if isinstance(part, Tail):
                    request.state.usage = part.usage
                else:
                    assert isinstance(part, bytes)
                    yield part
        except LOST:
            told = error(503, "the replica died in the middle of its answer", code="replica_lost")
            yield b"data: " + encode(told) + b"\n\ndata: [DONE]\n\n"


def _unstarted(head: Head) -> Head:
    """The error with which a stream begins, as the answer it would be without a stream."""
    line = head.body.split(b"\n", 1)[0].removeprefix(b"data: ")
    status = json.loads(line)["error"].get("code")
    known = isinstance(status, int) and 400 <= status < 600
    return Head(status if known else 500, "application/json", line)


def _told(head: Head) -> bytes:
    """vLLM's error with OpenAI's words for its type and code."""
    try:
        found = json.loads(head.body)["error"]
        message, param = str(found["message"]), found.get("param")
    except (ValueError, KeyError, TypeError):
        return head.body  # the gate's to word
    code = {400: "invalid_value", 404: "model_not_found"}.get(head.status)
    return encode(error(head.status, message, code=code, param=param))


def _unavailable(message: str) -> Refusal:
    return Refusal(503, message, reason="replica", code="no_replica", retry_after=10)


async def _refused(_: Request, refusal: Refusal) -> Response:
    headers = dict(refusal.headers)
    if refusal.retry_after is not None:
        headers["retry-after"] = str(math.ceil(refusal.retry_after))
    body = error(refusal.status, refusal.message, code=refusal.code, param=refusal.param)
    return JSONResponse(body, refusal.status, headers)
