"""The gate on a real socket: 200 clients at once, hostile bytes, slow ones."""

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from limo_ray.serve.gate import Gate
from tests.serve.gates import CHAT, HI, Scripted, gated, listening, until


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Gate]]:
    gate = gated(
        Scripted().app, max_concurrent=16, max_queue=64, body_timeout_s=2.0, max_body_bytes=50_000
    )
    with listening(gate) as url:
        yield url, gate


def test_of_200_clients_none_is_lost(server: tuple[str, Gate]) -> None:
    url, gate = server

    async def one(http: httpx.AsyncClient, number: int) -> str:
        body = {**HI, "stream": number % 2 == 0, "seconds": 0.05}
        response = await http.post(url + CHAT, json=body)
        if response.status_code == 429:
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert response.json()["error"]["code"] == "queue_full"
            return "refused"
        assert response.status_code == 200
        if body["stream"]:
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert response.json()["usage"]["completion_tokens"] == 30
        return "answered"

    async def run() -> Counter[str]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(limits=limits, timeout=20) as http:
            return Counter(await asyncio.gather(*(one(http, n) for n in range(200))))

    came = asyncio.run(run())
    assert came.total() == 200
    assert came["answered"] >= 16 + 64
    asyncio.run(until(lambda: gate.busy == 0))
    assert (gate.queue.inside, gate.queue.waiting, gate.reading) == (0, 0, 0)


def raw(url: str, data: bytes, wait: float = 20.0) -> bytes:
    """What the server says to these bytes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), wait) as link:
        link.sendall(data)
        answer = b""
        while True:
            try:
                piece = link.recv(65536)
            except TimeoutError:
                return answer
            answer += piece
            if not piece or b"\r\n\r\n{" in answer:
                return answer


HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()


def test_a_slow_body_and_an_endless_one_over_a_socket(server: tuple[str, Gate]) -> None:
    url, _ = server
    began = time.monotonic()
    assert b" 408 " in raw(url, HEAD + b"Content-Length: 100\r\n\r\n{").split(b"\r\n")[0]
    assert 1.5 < time.monotonic() - began < 15
    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    endless = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 16
    assert b" 413 " in raw(url, endless).split(b"\r\n")[0]


def values(rng: random.Random, depth: int = 0) -> Any:
    """Whatever JSON can hold, the odder the likelier."""
    odd: list[Any] = [
        None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63) + 1, 1e308, -0.0, 0.5, "",
        "\0", "\u202e", "😀" * 50, "a" * 5000, "999999", [], {}, [[]], [None], "<think>",
    ]  # fmt: skip
    if depth < 4 and rng.random() < 0.4:
        if rng.random() < 0.5:
            return [values(rng, depth + 1) for _ in range(rng.randrange(5))]
        return {str(rng.choice(odd)): values(rng, depth + 1) for _ in range(rng.randrange(5))}
    return rng.choice(odd)


def mangled(rng: random.Random) -> bytes:
    body = dict(HI)
    for field in rng.sample(
        ["model", "messages", "stream", "max_tokens", "n", "stop", "script", "seconds", "prompt",
         "temperature", "logprobs", "stream_options", "tools", "best_of"], rng.randrange(1, 5),
    ):  # fmt: skip
        body[field] = values(rng)
    if isinstance(body.get("seconds"), int | float):
        body["seconds"] = 0
    text = bytearray(json.dumps(body, ensure_ascii=rng.random() < 0.5).encode())
    if rng.random() < 0.4:
        for _ in range(rng.randrange(1, 5)):
            text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text[: rng.randrange(len(text))] if rng.random() < 0.1 else text)


def test_two_thousand_mangled_requests_and_no_5xx(server: tuple[str, Gate]) -> None:
    url, _ = server
    rng = random.Random(6)

    async def one(http: httpx.AsyncClient) -> int:
        # "boom" and "break" are the script's own failures; mangled bytes cannot spell them
        kind = rng.choice(["application/json"] * 9 + ["text/plain"])
        content, headers = mangled(rng), {"content-type": kind}
        method = rng.choice(["POST"] * 9 + ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
        path = rng.choice([CHAT] * 9 + ["/v1/completions", "/render", "/", "/v1/%00", "/metrics"])
        response = await http.request(method, url + path, content=content, headers=headers)
        if response.status_code >= 400 and method != "HEAD":
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
        return response.status_code

    async def run() -> Counter[int]:
        came: Counter[int] = Counter()
        async with httpx.AsyncClient(timeout=20) as http:
            for _ in range(250):
                came.update(await asyncio.gather(*(one(http) for _ in range(8))))
        return came

    came = asyncio.run(run())
    assert max(came) < 500, came
    assert came[200] > 100
    assert came[400] > 500
