"""What a replica yields of an ASGI application's answer, with scripted applications."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from limo_ray.serve.openai_extensions import ReplicaRequest
from limo_ray.serve.replica import (
    ACCEPTED,
    EngineReplica,
    ResponseChunk,
    ResponseEnd,
    ResponseStart,
)

EVENTS = "text/event-stream"
REQUEST = ReplicaRequest("POST", "/v1/chat/completions", b'{"stream": true}', " ", stream=True)
START = {
    "type": "http.response.start", "status": 200,
    "headers": [(b"Content-Type", EVENTS.encode())],
}  # fmt: skip
App = Callable[[Any, Any, Any], Awaitable[None]]


def body(text: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": more}


def replica(app: App) -> EngineReplica:
    made = object.__new__(EngineReplica)
    made.config, made.app, made.running = SimpleNamespace(stream_tokens=8), app, 0  # type: ignore[assignment]
    return made


async def _chunks(made: EngineReplica, pause: float = 0) -> list[ResponseChunk]:
    found: list[ResponseChunk] = []
    async with asyncio.timeout(5):  # a hang is what these tests are about
        async for chunk in made.answer(REQUEST):
            found.append(chunk)
            await asyncio.sleep(pause)
    return found


@pytest.mark.parametrize("at_once", [True, False])
def test_an_answer_in_pieces(at_once: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["request_metadata"] = SimpleNamespace(
            final_usage_info=SimpleNamespace(prompt_tokens=3, completion_tokens=2)
        )
        await send(START)
        for text, more in ((b"a", True), (b"b", True), (b"", False)):
            await send(body(text, more))
            if not at_once:
                await asyncio.sleep(0.01)

    made = replica(app)
    found = asyncio.run(_chunks(made))
    if at_once:
        assert found == [ACCEPTED, ResponseStart(200, EVENTS, b"ab", True, (3, 2))]
    else:
        assert found == [ACCEPTED, ResponseStart(200, EVENTS, b"a"), b"b", ResponseEnd((3, 2))]
    assert made.running == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_an_application_that_stops_in_its_answer_ends_it(at_once: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"a", True))
        if not at_once:
            await asyncio.sleep(0.01)

    made = replica(app)
    assert asyncio.run(_chunks(made)) == [
        ACCEPTED,
        ResponseStart(200, EVENTS, b"a"),
        ResponseEnd(None),
    ]
    assert made.running == 0


def test_an_application_that_stops_while_nobody_listens_ends_it_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"a", True))
        await asyncio.sleep(0.05)
        await send(body(b"b", True))

    found = asyncio.run(_chunks(replica(app), pause=0.1))
    assert found == [ACCEPTED, ResponseStart(200, EVENTS, b"a"), b"b", ResponseEnd(None)]


@pytest.mark.parametrize("begun", [True, False])
def test_an_application_that_fails_is_the_callers_error(begun: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send(START)
            await send(body(b"a", True))
        raise RuntimeError("out of luck")

    made = replica(app)
    with pytest.raises(RuntimeError, match="out of luck"):
        asyncio.run(_chunks(made))
    assert made.running == 0


def test_closing_the_answer_stops_the_application() -> None:
    stopped = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"a", True))
        await receive()
        try:
            stopped.append((await receive())["type"])
        except asyncio.CancelledError:
            stopped.append("cancelled")
            raise

    async def leave() -> None:
        answer = replica(app).answer(REQUEST)
        assert [await anext(answer), await anext(answer)] == [
            ACCEPTED,
            ResponseStart(200, EVENTS, b"a"),
        ]
        await answer.aclose()

    asyncio.run(leave())
    assert stopped
