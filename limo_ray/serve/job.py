"""jobs/serve.py: starts the endpoint, keeps it, and drains it on Ctrl-C or SIGTERM."""

import logging
import os
import re
import time
from dataclasses import dataclass

import ray
from ray import serve as ray_serve
from ray.serve.exceptions import RayServeException

from limo_ray.core.console import say
from limo_ray.core.errors import EngineError
from limo_ray.core.uris import redact
from limo_ray.serve.app import QUIET, engines
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.http_server import HttpServer, listening_socket
from limo_ray.serve.ingress import Ingress
from limo_ray.storage import model_files

# Our own exception in a replica, in the traceback that Serve keeps of it.
CAUSE = re.compile(r"^(?:limo_ray[\w.]*\.)?(?:EngineError|ConfigError|ValueError): (.+)$", re.M)


@dataclass(slots=True)
class Served:
    """The result: what the job prints when the endpoint has stopped."""

    name: str
    seconds: float
    cut_off: int

    def summary(self) -> str:
        lost = f", {self.cut_off} request(s) cut off" if self.cut_off else ""
        return f"{self.name} stopped after {self.seconds:.0f} s{lost}"


def serve(config: ServeConfig, device: str) -> Served:
    """Serves until interrupted; a second interrupt ends it at once.

    Raises:
        EngineError: the engine does not start; the message says why in one line.
    """
    app = engines(config, device)
    listener = listening_socket(config.host, config.port)
    _check_machine(config)
    say(f"starting {config.model_name} on {config.engine.device} ...")
    begun = time.monotonic()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    server: HttpServer | None = None
    try:
        ray_serve.start(proxy_location="Disabled", logging_config=QUIET)
        try:
            replicas = ray_serve.run(app, name=config.name, route_prefix=None)
        except (RuntimeError, RayServeException) as failed:
            raise EngineError(_cause(config)) from failed
        ingress = Ingress(config, replicas)
        server = HttpServer(ingress.__serve_build_asgi_app__(), config.gate, listener)
        seconds = time.monotonic() - begun
        say(f"ready after {seconds:.0f} s: {url(config)} (model {config.model_name})")
        while True:
            time.sleep(2)
            if _state(config) == "DEPLOY_FAILED":
                raise EngineError(_cause(config))
    except KeyboardInterrupt:
        say(f"draining: up to {config.drain_s:.0f} s for the requests that run")
        cut_off = server.run(ingress.drain()) if server else 0
        return Served(config.name, time.monotonic() - begun, cut_off)
    finally:
        if server:
            server.close()
        ray_serve.shutdown()


def _check_machine(config: ServeConfig) -> None:
    """On a local Ray, which adds no nodes: refuses at once what could never start."""
    if os.environ.get("RAY_ADDRESS"):
        return
    engine, there = config.engine, ray.cluster_resources()
    needs = {"CPU": engine.num_cpus + 0.1}
    if engine.device == "gpu":
        needs["GPU"] = engine.tensor_parallel * engine.pipeline_parallel
    for name, count in needs.items():
        if count * (engine.min_replicas if name == "GPU" else 1) > there.get(name, 0):
            raise ValueError(
                f"engine: {engine.min_replicas} replica(s) need {count:g} {name} each, "
                f"this machine has {there.get(name, 0):g}"
            )


def url(config: ServeConfig) -> str:
    """Where a browser or client on this machine finds it."""
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
    return f"http://{host}:{config.port}"


def _state(config: ServeConfig) -> str:
    app = ray_serve.status().applications.get(config.name)
    return "" if app is None else str(app.status.value)


def _cause(config: ServeConfig) -> str:
    """Why the application did not start, from the tracebacks that Serve keeps."""
    app = ray_serve.status().applications.get(config.name)
    if app is None:
        return "the application is gone"
    texts = [each.message for each in app.deployments.values() if each.message] + [app.message]
    for text in texts:
        if found := CAUSE.findall(text):
            return found[-1].strip()
    return texts[0].strip().splitlines()[-1]


def outline(config: ServeConfig, device: str) -> str:
    """What the job would start, for --dry-run."""
    engine = config.engine
    where = device if engine.device == "auto" else engine.device
    size = model_files.parameters(config.model)
    weights = f", {size:.2f} billion parameters" if size else ""
    each = (
        f"bundles {[dict(bundle) for bundle in engine.bundles]}"
        if engine.bundles
        else f"{engine.tensor_parallel * engine.pipeline_parallel} GPU(s)"
        if where == "gpu"
        else f"{engine.num_cpus:g} logical CPU(s)"
    )
    count = f"{engine.min_replicas}"
    if engine.max_replicas > engine.min_replicas:
        count += f" to {engine.max_replicas}"
    routing = config.routing if engine.max_replicas > 1 else "one replica"
    budget = config.budget
    most = "no limit" if budget.max_thinking_tokens < 0 else f"{budget.max_thinking_tokens}"
    return "\n".join(
        [
            f"endpoint  {url(config)}/v1, model {config.model_name}{weights}",
            *(f"adapter   {name}: {redact(uri)}" for name, uri in config.adapters.items()),
            f"replicas  {count} on {where}, {each} each, busy with {config.slots} requests",
            f"routing   {routing}",
            f"engine    {engine.dtype}, context of {engine.max_model_len} tokens",
            f"thinking  at least {budget.min_thinking_tokens}, at most {most}, "
            f"{budget.waits} wait(s) unless a request says otherwise",
        ]
    )
