"""The ingress with scripted replicas: failing over, errors in a stream, odd requests."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray.exceptions import ActorDiedError

from limo_ray.core import config
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.ingress import Ingress
from limo_ray.serve.openai_extensions import ReplicaRequest
from limo_ray.serve.replica import ResponseChunk, ResponseEnd, ResponseStart

LAPTOP = str(Path(__file__).parent.parent.parent / "conf/serve/laptop.yaml")
JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
WHOLE = ResponseStart(200, JSON, b'{"usage": {}}', True, (3, 4))
PATH = "/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Q"}]}


class Scripted(Ingress):
    """Each call of a replica takes the next script: chunks to yield, or errors to raise."""

    def __init__(self, *scripts: list[Any]) -> None:
        super().__init__(config.load(ServeConfig, [LAPTOP]), None)
        self.scripts = list(scripts)

    async def ready(self) -> bool:
        return True

    async def _chunks(self, call: ReplicaRequest) -> AsyncGenerator[ResponseChunk, None]:
        for chunk in self.scripts.pop(0) if self.scripts else [WHOLE]:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def post(ingress: Scripted, **fields: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(ingress.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(PATH, json=CHAT | fields)

    return asyncio.run(ask())


def test_a_request_goes_to_another_replica_once() -> None:
    ingress = Scripted([ActorDiedError()], [WHOLE])
    assert post(ingress).status_code == 200
    assert not ingress.scripts
    answer = post(Scripted([ActorDiedError()], [ActorDiedError()], [WHOLE]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_replica")
    assert int(answer.headers["retry-after"]) > 0


def test_a_begun_stream_ends_with_the_error() -> None:
    answer = post(
        Scripted([ResponseStart(200, EVENTS, b"data: {}\n\n"), ActorDiedError()]), stream=True
    )
    lines = [line for line in answer.text.splitlines() if line]
    assert (answer.status_code, lines[0], lines[-1]) == (200, "data: {}", "data: [DONE]")
    assert "replica_lost" in lines[1]


@pytest.mark.parametrize("whole", [True, False])
def test_an_error_before_the_first_token_is_no_stream(whole: bool) -> None:
    body = b'data: {"error": {"message": "out of vocab", "param": "stop", "code": 400}}\n\n'
    rest: list[ResponseChunk] = [] if whole else [b"data: [DONE]\n\n", ResponseEnd(None)]
    answer = post(Scripted([ResponseStart(200, EVENTS, body, whole), *rest]), stream=True)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "out of vocab", "type": "invalid_request_error", "param": "stop",
        "code": "invalid_value",
    }  # fmt: skip


def test_a_schema_that_vllm_chokes_on_is_the_clients_mistake() -> None:
    failed = ResponseStart(500, JSON, b'{"error": {"message": "Internal server error"}}', True)
    assert post(Scripted([failed])).status_code == 500
    answer = post(Scripted([failed]), structured_outputs={"json": {"$ref": "#"}})
    assert answer.status_code == 400
    assert "schema" in answer.json()["error"]["message"]


@pytest.mark.parametrize("streams", [True, False])
def test_the_replicas_counts_of_tokens_reach_the_metrics(streams: bool) -> None:
    stream = [ResponseStart(200, EVENTS, b"data: {}\n\n"), ResponseEnd((3, 4))]
    ingress = Scripted(stream if streams else [WHOLE])
    assert post(ingress, stream=streams).status_code == 200
    text = ingress.gateway.metrics.text(with_keys=True)[0]
    assert b'limo_ray_tokens_total{direction="in"} 3.0' in text
    assert b'limo_ray_tokens_total{direction="out"} 4.0' in text


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """Whatever JSON can hold, the odder the likelier."""
    odd: list[Any] = [
        None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63) + 1, 1e308, -0.0, 0.5, "",
        "\0", "\u202e", "😀" * 50, "a" * 5000, "999999", [], {}, [[]], [None], "<think>",
    ]  # fmt: skip
    if depth < 4 and rng.random() < 0.4:
        if rng.random() < 0.5:
            return [odd_value(rng, depth + 1) for _ in range(rng.randrange(5))]
        return {
            str(rng.choice([*odd, "role", "content", "text"])): odd_value(rng, depth + 1)
            for _ in range(rng.randrange(5))
        }
    return rng.choice(odd)


FIELDS = [
    "model", "messages", "stream", "max_tokens", "n", "stop", "prompt", "temperature", "logprobs",
    "stream_options", "tools", "best_of", "min_thinking_tokens", "max_thinking_tokens", "waits",
    "vllm_xargs", "response_format", "use_beam_search", "text",
]  # fmt: skip


def odd_body(rng: random.Random) -> bytes:
    body: dict[str, Any] = dict(CHAT)
    for field in rng.sample(FIELDS, rng.randrange(1, 5)):
        body[field] = odd_value(rng)
    if rng.random() < 0.3:
        body["messages"] = [{"role": odd_value(rng), "content": odd_value(rng)}]
    if rng.random() < 0.05:
        return b'{"messages":' + b"[" * rng.choice([10, 70, 5000]) + b"]}"
    text = bytearray(json.dumps(body, ensure_ascii=rng.random() < 0.5).encode())
    if rng.random() < 0.4:
        for _ in range(rng.randrange(1, 5)):
            text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text[: rng.randrange(len(text))] if rng.random() < 0.1 else text)


def test_two_thousand_odd_requests_and_no_5xx() -> None:
    ingress, rng = Scripted(), random.Random(6)

    async def one(http: httpx.AsyncClient) -> int:
        kind = rng.choice(["application/json"] * 9 + ["text/plain"])
        method = rng.choice(["POST"] * 9 + ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
        path = rng.choice([PATH] * 9 + ["/v1/completions", "/render", "/", "/v1/%00", "/metrics"])
        response = await http.request(
            method, path, content=odd_body(rng), headers={"content-type": kind}
        )
        if response.status_code >= 400 and method != "HEAD":
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
        return response.status_code

    async def run() -> Counter[int]:
        transport = httpx.ASGITransport(ingress.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return Counter([await one(http) for _ in range(2000)])

    statuses = asyncio.run(run())
    assert max(statuses) < 500, statuses
    assert statuses[200] > 100
    assert statuses[400] > 500


@pytest.mark.parametrize("role", [[], {}, None, 3, {"a": []}])
def test_a_role_of_another_type_is_no_failure(role: Any) -> None:
    answer = post(Scripted(), messages=[{"role": role, "content": "Q"}])
    assert answer.status_code == 200  # vLLM refuses it
