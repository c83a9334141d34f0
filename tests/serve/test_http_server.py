"""The web server on a real socket: slow clients, many connections, 200 clients at once."""

import asyncio
import contextlib
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from limo_ray.serve.config import GateConfig
from limo_ray.serve.http_server import HttpServer, listening_socket
from tests.serve.scripted import CHAT, HI, Endpoint, Scripted, listening, until

ROOT = Path(__file__).parent.parent.parent
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\n"
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()

# A server with few file descriptors at first; it prints its port.
FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2048))
from tests.serve.scripted import Endpoint, Scripted, listening
with listening(Endpoint(Scripted().routes).app) as (host, port):
    print(port, flush=True)
    input()
"""


def connected(address: tuple[str, int], data: bytes = b"") -> socket.socket:
    link = socket.create_connection(address, 20)
    link.sendall(data)
    return link


def closed_by_server(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        return link.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def healthy(address: tuple[str, int]) -> bool:
    return httpx.get(f"http://{address[0]}:{address[1]}/health", timeout=10).status_code == 200


@contextlib.contextmanager
def half_sent(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connected(address, HALF)) for _ in range(count)]


@pytest.mark.process
def test_half_sent_headers_do_not_take_all_file_descriptors() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", FEW_FILES], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin and server.stdout
    with server:
        address = ("127.0.0.1", int(server.stdout.readline()))
        try:
            with half_sent(address, 70):
                assert healthy(address)
        finally:
            server.stdin.close()


def test_a_slow_header_closes_its_connection_and_a_whole_one_does_not() -> None:
    app = Endpoint(Scripted().routes).app
    with listening(app, header_timeout_s=0.5) as address, half_sent(address, 3) as slow:
        kept = connected(address, HALF + b"\r\n")
        assert b"200 OK" in kept.recv(65536)
        asyncio.run(until(lambda: all(closed_by_server(link) for link in slow)))
        assert not closed_by_server(kept)
        kept.setblocking(True)
        kept.sendall(HALF)  # the next header on the same connection
        asyncio.run(until(lambda: closed_by_server(kept)))
        kept.close()


def test_an_endless_header_closes_its_connection() -> None:
    app = Endpoint(Scripted().routes).app
    with listening(app) as address, connected(address, HALF) as link:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(100):
                link.sendall(b"X-Filler: " + b"x" * 60_000 + b"\r\n")
                time.sleep(0.01)
        assert healthy(address)


def test_connections_of_one_address_are_bounded_and_idle_ones_give_way() -> None:
    scripted = Scripted()
    app = Endpoint(scripted.routes).app
    with listening(app, max_connections_per_address=10, header_timeout_s=100) as address:
        body = b'{"script": "hold"}'
        head = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
        with connected(address, head + body) as running:
            asyncio.run(until(lambda: scripted.calls == 1))
            with half_sent(address, 40) as links:
                asyncio.run(until(lambda: sum(map(closed_by_server, links)) >= 31))
                assert healthy(address)
            assert not closed_by_server(running)


def test_the_soft_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with listening(Endpoint(Scripted().routes).app):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_slow_body_and_an_endless_one_over_a_socket() -> None:
    endpoint = Endpoint(Scripted().routes, body_timeout_s=1.0, max_body_bytes=50_000)
    with listening(endpoint.app) as address:
        started = time.monotonic()
        with connected(address, HEAD + b"Content-Length: 100\r\n\r\n{") as slow:
            assert b" 408 " in slow.recv(65536).split(b"\r\n")[0]
        assert 0.8 < time.monotonic() - started < 15
        piece = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        with connected(
            address, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 16
        ) as endless:
            assert b" 413 " in endless.recv(65536).split(b"\r\n")[0]


def test_the_server_drains_from_another_thread() -> None:
    """As jobs/serve.py does on SIGTERM: the open request is answered, a new one is refused."""
    scripted = Scripted()
    endpoint = Endpoint(scripted.routes)
    listener = listening_socket("127.0.0.1", 0)
    server = HttpServer(endpoint.app, GateConfig(), listener)
    host, port = listener.getsockname()
    url = f"http://{host}:{port}{CHAT}"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(httpx.post, url, json={**HI, "script": "hold"}, timeout=20)
        asyncio.run(until(lambda: scripted.calls == 1))
        drained = pool.submit(lambda: server.run(endpoint.queue.drain(20)))
        asyncio.run(until(lambda: endpoint.queue.draining))
        assert httpx.post(url, json=HI, timeout=20).status_code == 503
        server.loop.call_soon_threadsafe(scripted.opened.set)
        assert (running.result().status_code, drained.result()) == (200, 0)
    server.close()
    assert not server.thread.is_alive()


def test_of_200_clients_beside_200_slow_ones_none_is_lost() -> None:
    endpoint = Endpoint(Scripted().routes, max_concurrent=16, max_queue=64)

    async def one(http: httpx.AsyncClient, number: int) -> str:
        response = await http.post(CHAT, json={**HI, "stream": number % 2 == 0})
        if response.status_code == 429:
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert response.json()["error"]["code"] == "queue_full"
            return "refused"
        assert response.status_code == 200
        if number % 2 == 0:
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert response.json()["usage"]["completion_tokens"] == 30
        return "answered"

    async def run(url: str) -> Counter[str]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(limits=limits, timeout=20, base_url=url) as http:
            return Counter(await asyncio.gather(*(one(http, n) for n in range(200))))

    with listening(endpoint.app) as address, half_sent(address, 200):
        outcomes = asyncio.run(run(f"http://{address[0]}:{address[1]}"))
    assert outcomes.total() == 200
    assert outcomes["answered"] >= 16 + 64
    asyncio.run(until(lambda: endpoint.idle))
