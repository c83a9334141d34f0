"""The ingress with scripted replicas: failing over, errors before and in a stream."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray.exceptions import ActorDiedError

from limo_ray.core import config
from limo_ray.serve.app import Ingress
from limo_ray.serve.config import ServeConfig
from limo_ray.serve.openai_extensions import Call
from limo_ray.serve.replica import Head, Part, Tail

LAPTOP = str(Path(__file__).parent.parent.parent / "conf/serve/laptop.yaml")
JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
WHOLE = Head(200, JSON, b'{"usage": {}}', True, (3, 4))
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Q"}]}


class Scripted(Ingress):
    """Each call of a replica takes the next script: parts to yield, or errors to raise."""

    def __init__(self, *scripts: list[Any]) -> None:
        super().__init__(config.load(ServeConfig, [LAPTOP]), None)
        self.scripts = list(scripts)

    async def _parts(self, call: Call) -> AsyncGenerator[Part, None]:
        for part in self.scripts.pop(0):
            if isinstance(part, Exception):
                raise part
            yield part


def post(ingress: Scripted, **fields: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(ingress.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/chat/completions", json=CHAT | fields)

    return asyncio.run(ask())


def test_a_request_goes_to_another_replica_once() -> None:
    ingress = Scripted([ActorDiedError()], [WHOLE])
    assert post(ingress).status_code == 200
    assert not ingress.scripts
    answer = post(Scripted([ActorDiedError()], [ActorDiedError()], [WHOLE]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_replica")
    assert int(answer.headers["retry-after"]) > 0


def test_a_begun_stream_ends_with_the_error() -> None:
    answer = post(Scripted([Head(200, EVENTS, b"data: {}\n\n"), ActorDiedError()]), stream=True)
    lines = [line for line in answer.text.splitlines() if line]
    assert (answer.status_code, lines[0], lines[-1]) == (200, "data: {}", "data: [DONE]")
    assert "replica_lost" in lines[1]


@pytest.mark.parametrize("whole", [True, False])
def test_an_error_before_the_first_token_is_no_stream(whole: bool) -> None:
    body = b'data: {"error": {"message": "out of vocab", "param": "stop", "code": 400}}\n\n'
    rest: list[Part] = [] if whole else [b"data: [DONE]\n\n", Tail(None)]
    answer = post(Scripted([Head(200, EVENTS, body, whole), *rest]), stream=True)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "out of vocab", "type": "invalid_request_error", "param": "stop",
        "code": "invalid_value",
    }  # fmt: skip


def test_a_schema_that_vllm_chokes_on_is_the_clients_mistake() -> None:
    failed = Head(500, JSON, b'{"error": {"message": "Internal server error"}}', True)
    assert post(Scripted([failed])).status_code == 500
    answer = post(Scripted([failed]), structured_outputs={"json": {"$ref": "#"}})
    assert answer.status_code == 400
    assert "schema" in answer.json()["error"]["message"]
