"""The endpoint among odd requests, slow clients and honest ones, all at once.

    python -m tests.chaos.endpoint [--odd 10000] [--slow 200] [--honest 200] [--seed 0]

The web server and the ingress of jobs/serve.py in a process of their own, before scripted replicas.
The exit code is 1 if it answered a 5xx, an honest client was not served, or its memory grew by more
than --memory-mib.
"""

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from limo_ray.core import config
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.http_server import HttpServer, listening_socket
from limo_ray.serve.openai_extensions import ReplicaRequest
from limo_ray.serve.replica import ResponseChunk, ResponseEnd, ResponseStart
from tests.serve.test_ingress import CHAT, EVENTS, LAPTOP, PATH, WHOLE, Scripted, odd_body

ROOT = Path(__file__).parent.parent.parent
AT_ONCE = 50  # odd requests in flight
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()


class Replicas(Scripted):
    """An ingress before replicas that take their time, and stream when they are asked to."""

    async def _chunks(self, call: ReplicaRequest) -> AsyncGenerator[ResponseChunk, None]:
        await asyncio.sleep(0.02)
        if not call.stream:
            yield WHOLE
            return
        yield ResponseStart(200, EVENTS, b"data: {}\n\n")
        await asyncio.sleep(0.02)
        yield b"data: [DONE]\n\n"
        yield ResponseEnd((3, 2))


def serve() -> None:
    """Prints its port; ends with its standard input."""
    gate = config.load(ServeConfig, [LAPTOP]).gate
    listener = listening_socket("127.0.0.1", 0)
    server = HttpServer(Replicas().__serve_build_asgi_app__(), gate, listener)
    while not server.server.started:
        time.sleep(0.01)
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
    server.close()


@contextlib.contextmanager
def served() -> Iterator[tuple[int, psutil.Process]]:
    command = [sys.executable, "-m", "tests.chaos.endpoint", "--serve"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, **pipes) as server:
        assert server.stdin and server.stdout
        try:
            yield int(server.stdout.readline()), psutil.Process(server.pid)
        finally:
            server.stdin.close()


async def odd(port: int, count: int, seed: int) -> Counter[int]:
    """Statuses of so many odd requests; 0 where the server hung up, as on a broken header."""
    rng, found = random.Random(seed), Counter[int]()
    left = iter(range(count))

    async def work(http: httpx.AsyncClient) -> None:
        for _ in left:
            if rng.random() < 0.1:
                junk = rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n"
                found[await raw(port, rng.choice([junk, HEAD + junk, HEAD + b"\r\n" + junk]))] += 1
                continue
            method = rng.choice(["POST"] * 9 + ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
            path = rng.choice([PATH] * 9 + ["/v1/completions", "/", "/v1/%00", "/metrics"])
            kind = rng.choice(["application/json"] * 9 + ["text/plain"])
            body, headers = odd_body(rng), {"content-type": kind}
            try:
                answer = await http.request(method, path, content=body, headers=headers)
                found[answer.status_code] += 1
            except httpx.TransportError:  # it hung up
                found[0] += 1

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        await asyncio.gather(*(work(http) for _ in range(AT_ONCE)))
    return found


async def raw(port: int, data: bytes) -> int:
    """The status that some bytes are answered with; 0 for none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), 60)
        words = line.split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    except OSError:
        return 0
    finally:
        writer.close()


async def slow(port: int, number: int, over: asyncio.Event) -> int:
    """Sends a header or a body byte by byte, or never reads; again when the server hangs up."""
    begin = [b"GET /health HTTP/1.1\r\nX-A: ", HEAD + b"Content-Length: 100000\r\n\r\n", HEAD]
    hung_up = 0
    while not over.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begin[number % 3])
            try:
                while not over.is_set() and not reader.at_eof():
                    writer.write(b"a")
                    await writer.drain()
                    await asyncio.sleep(0.5)
            finally:
                writer.close()
            hung_up += reader.at_eof()
    return hung_up


async def honest(port: int, number: int, over: asyncio.Event) -> list[float]:
    """Chats one after the other; the seconds that each took. Raises for one that is not served."""
    seconds = []
    limits = httpx.Limits(max_connections=1)
    url = f"http://127.0.0.1:{port}{PATH}"
    async with httpx.AsyncClient(limits=limits, timeout=120) as http:
        while not over.is_set() or not seconds:
            begun = time.monotonic()
            stream = number % 2 == 0
            answer = await http.post(url, json=CHAT | {"stream": stream})
            assert answer.status_code == 200, answer.text
            assert not stream or answer.text.endswith("data: [DONE]\n\n"), answer.text
            seconds.append(time.monotonic() - begun)
            await asyncio.sleep(2)
    return seconds


async def measure(arguments: Any) -> bool:
    """Prints what came of it; True if all went well."""
    with served() as (port, process):
        await raw(port, HEAD + b"Content-Length: 2\r\n\r\n{}")
        before, peak = process.memory_info().rss, 0
        over, begun = asyncio.Event(), time.monotonic()
        kept = [asyncio.create_task(slow(port, n, over)) for n in range(arguments.slow)]
        others = [asyncio.create_task(honest(port, n, over)) for n in range(arguments.honest)]
        work = asyncio.create_task(odd(port, arguments.odd, arguments.seed))
        while not work.done():
            await asyncio.sleep(0.2)
            peak = max(peak, process.memory_info().rss)
        spent = time.monotonic() - begun
        over.set()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        hung_up = sum(await asyncio.gather(*kept))
        files = process.num_fds()
    lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    seconds = sorted(s for outcome in outcomes if isinstance(outcome, list) for s in outcome)
    statuses, grown = work.result(), (peak - before) / 2**20
    print(f"{arguments.odd:,} odd requests in {spent:.0f} s: {dict(sorted(statuses.items()))}")
    print(f"{arguments.slow} slow clients, whose connections were closed {hung_up} times")
    print(
        f"{arguments.honest} honest clients: {len(seconds):,} chats served, {len(lost)} clients "
        f"not; median {seconds[len(seconds) // 2]:.2f} s, longest {seconds[-1]:.2f} s"
    )
    print(f"memory {before / 2**20:.0f} MiB at first, {grown:.0f} more at most; {files} files open")
    print("\n".join(map(repr, lost[:3])))
    return max(statuses) < 500 and not lost and grown < arguments.memory_mib


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--odd", type=int, default=10_000)
    made.add_argument("--slow", type=int, default=200)
    made.add_argument("--honest", type=int, default=200)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--memory-mib", type=float, default=256)
    made.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    given = parser().parse_args()
    if given.serve:
        serve()
    else:
        sys.exit(0 if asyncio.run(measure(given)) else 1)
