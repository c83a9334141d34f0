"""The endpoint under load while its replicas and its ingress are killed at random.

    python -m tests.chaos.serving [--seconds 180] [--clients 32] [--seed 0]

The application that `serve run` starts, with scripted replicas. The exit code is 1 if a request
hung, or ended in anything but an answer, an error event in its stream or a 503; those that were in
an ingress when it was killed may also end with a closed connection, or the proxy's 500.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import ray
from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from limo_ray.core import config as configs
from limo_ray.serve import app as serve_app
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.replica import EngineReplica

LAPTOP = str(Path(__file__).parent.parent.parent / "conf/serve/laptop.yaml")
EVENTS, PACE_S = 20, 0.05
PATIENCE_S = 120  # a request that takes longer hangs
STREAMED = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'


class ScriptedReplica(EngineReplica):
    """Answers in a second or so, without an engine."""

    async def __init__(self, config: ServeConfig) -> None:  # type: ignore[misc]
        async def models(_: Request) -> Response:
            return JSONResponse({"data": [{"id": "m"}]})

        async def chat(request: Request) -> Response:
            if (await request.json()).get("stream"):
                return StreamingResponse(events(), media_type="text/event-stream")
            await asyncio.sleep(EVENTS * PACE_S)
            return JSONResponse({"choices": [{"message": {"content": "a" * EVENTS}}]})

        async def events() -> Any:
            for _ in range(EVENTS):
                yield STREAMED
                await asyncio.sleep(PACE_S)
            yield b"data: [DONE]\n\n"

        routes = [
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
        ]
        self.config, self.app, self.running = config, Starlette(routes=routes), 0

    async def load(self) -> dict[str, int]:
        return {"requests": self.running, "sequences": self.running}

    def _dead(self) -> bool:
        return False


def start(replicas: int) -> str:
    """Starts the application on the connected Ray; returns its URL."""
    config = configs.load(
        ServeConfig,
        [LAPTOP, "engine.num_cpus=0.1", f"engine.min_replicas={replicas}", "drain_s=1",
         f"engine.max_replicas={replicas}", "accept_s=10", "starts=1000"],
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    real, serve_app.EngineReplica = serve_app.EngineReplica, ScriptedReplica  # type: ignore[misc]
    try:
        app = serve_app.application(config, "cpu")
    finally:
        serve_app.EngineReplica = real  # type: ignore[misc]
    serve.start(
        proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port},
        logging_config=serve_app.QUIET,
    )  # fmt: skip
    serve.run(app, name="chaos", route_prefix="/")
    return f"http://127.0.0.1:{port}"


def workers(name: str) -> list[psutil.Process]:
    """Of the deployment, in the Ray that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if f"ServeReplica:chaos:{name}" in process.cmdline()[0]:
                found.append(process)
    return found


class Load:
    """Clients that ask one question after the other, and how each request ended."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/v1/chat/completions"
        self.ends: Counter[str] = Counter()
        self.odd: list[str] = []
        self.ingress_killed: list[float] = []
        self.over = False

    async def client(self, number: int) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            while not self.over:
                begun = time.time()
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        end = await self._ask(http, stream=number % 2 == 0)
                except (TimeoutError, httpx.TimeoutException):
                    end = "hung"
                except httpx.TransportError:
                    end = "closed"
                if end in ("closed", "500") and self._in_killed_ingress(begun):
                    end += " with its ingress"
                self.ends[end] += 1
                if end == "503":
                    await asyncio.sleep(0.5)

    def _in_killed_ingress(self, begun: float) -> bool:
        """Also one that came before the proxy knew of it."""
        return any(begun - 5 < at < time.time() for at in self.ingress_killed)

    async def _ask(self, http: httpx.AsyncClient, stream: bool) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": "Q"}], "stream": stream}
        async with http.stream("POST", self.url, json=body) as answer:
            text = await answer.aread()
        if answer.status_code == 200 and not stream:
            return "answer" if b"a" * EVENTS in text else self._odd(answer, text)
        if answer.status_code == 200:
            events = text.split(b"\n\n")
            if events[-2:] != [b"data: [DONE]", b""]:
                return "closed"
            if text.count(STREAMED) == EVENTS:
                return "answer"
            last = json.loads(events[-3][6:])
            return "error event" if "error" in last else self._odd(answer, text)
        if answer.status_code == 500:
            return "500"
        if answer.status_code == 503:
            return "503"
        return self._odd(answer, text)

    def _odd(self, answer: httpx.Response, text: bytes) -> str:
        self.odd.append(f"{answer.status_code} {text[-200:]!r}")
        return "odd"


async def tear(load: Load, seconds: float, seed: int) -> Counter[str]:
    """Kills until the time is over; returns what it killed."""
    rng, killed = random.Random(seed), Counter[str]()
    until = time.time() + seconds
    while time.time() < until:
        await asyncio.sleep(rng.uniform(1, 4))
        kind = rng.choice(["Replica", "Replica", "Replica", "Ingress"])
        if found := workers(kind):
            if kind == "Ingress":
                load.ingress_killed.append(time.time())
            rng.choice(found).send_signal(signal.SIGKILL)
            killed[kind] += 1
    return killed


async def measure(url: str, arguments: Any) -> bool:
    """Prints what came of it; True if no request was lost."""
    load = Load(url)
    clients = [asyncio.create_task(load.client(n)) for n in range(arguments.clients)]
    killed = await tear(load, arguments.seconds, arguments.seed)
    load.over = True
    await asyncio.gather(*clients)
    load.over = False  # and it still serves
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        deadline = time.time() + 90
        end = ""
        while end != "answer" and time.time() < deadline:
            with contextlib.suppress(httpx.TransportError):
                end = await load._ask(http, stream=True)
            await asyncio.sleep(0.5)
    print(f"{killed.total()} kills in {arguments.seconds} s ({dict(killed)})")
    print(f"{load.ends.total():,} requests: {dict(load.ends)}; afterwards: {end}")
    print("\n".join(load.odd[:5]))
    allowed = {"answer", "error event", "503", "closed with its ingress", "500 with its ingress"}
    return load.ends.keys() <= allowed and end == "answer" and load.ends["answer"] > 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--seconds", type=float, default=180)
    made.add_argument("--clients", type=int, default=32)
    made.add_argument("--replicas", type=int, default=3)
    made.add_argument("--seed", type=int, default=0)
    return made


def main() -> int:
    from limo_ray.cli.ray_cluster import start_ray

    arguments = parser().parse_args()
    start_ray(log_to_driver=False)
    try:
        return 0 if asyncio.run(measure(start(arguments.replicas), arguments)) else 1
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
