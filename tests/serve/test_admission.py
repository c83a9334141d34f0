"""Admission: the bounded queue, clients that leave, draining."""

import asyncio
import json
from typing import Any

import pytest

from tests.serve.scripted import CHAT, HI, AsgiRequest, Endpoint, Scripted, client, until

HOLD = json.dumps({**HI, "script": "hold"}).encode()


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


def error(text: bytes) -> dict[str, Any]:
    return json.loads(text)["error"]


def test_the_queue_is_bounded_and_refuses_with_retry_after(scripted: Scripted) -> None:
    async def run() -> None:
        endpoint = Endpoint(scripted.routes, max_concurrent=2, max_queue=3)
        requests = [AsgiRequest(endpoint.app).body(HOLD) for _ in range(8)]
        await until(lambda: sum(r.task.done() for r in requests) == 3)
        assert scripted.calls == 2
        refused = [r for r in requests if r.task.done()]
        assert {r.status for r in refused} == {429}
        assert all(1 <= int(r.header("retry-after") or 0) <= 60 for r in refused)
        assert error(refused[0].text)["code"] == "queue_full"
        scripted.opened.set()
        await asyncio.gather(*(r.task for r in requests))
        assert sorted(r.status for r in requests) == [200] * 5 + [429] * 3
        assert scripted.most == 2
        assert endpoint.idle

    asyncio.run(run())


def test_who_waits_first_runs_first_and_a_body_under_way_takes_no_slot(scripted: Scripted) -> None:
    async def run() -> None:
        endpoint = Endpoint(scripted.routes, max_concurrent=1, max_queue=2)
        slow = AsgiRequest(endpoint.app).body(b"{", more=True)
        await until(lambda: endpoint.queue.with_body == 1)
        first, second = (AsgiRequest(endpoint.app).body(HOLD) for _ in range(2))
        await until(lambda: scripted.calls == 1)
        third = AsgiRequest(endpoint.app).body(HOLD)  # the body under way is a part of the bound
        await third.task
        assert third.status == 429
        assert not first.task.done()
        scripted.opened.set()
        await asyncio.gather(first.task, second.task, slow.hang_up().task)
        assert (first.status, second.status, slow.status) == (200, 200, None)
        assert endpoint.idle

    asyncio.run(run())


def test_who_hangs_up_leaves_the_queue_and_the_engine(scripted: Scripted) -> None:
    async def run() -> None:
        endpoint = Endpoint(scripted.routes, max_concurrent=1, max_queue=5)
        running, waiting, last = (AsgiRequest(endpoint.app).body(HOLD) for _ in range(3))
        await until(lambda: endpoint.queue.waiting == 2)
        waiting.hang_up()
        await waiting.task
        assert (endpoint.queue.running, endpoint.queue.waiting) == (1, 1)
        assert waiting.sent == []
        running.hang_up()  # its slot goes to the last one
        await running.task
        await until(lambda: scripted.calls == 2)
        assert scripted.cancelled == 1
        stream = json.dumps({**HI, "stream": True, "script": "endless"}).encode()
        streaming = AsgiRequest(endpoint.app).body(stream)
        scripted.opened.set()
        await last.task
        assert last.status == 200
        await until(lambda: len(streaming.sent) > 1)
        await streaming.task
        scripted.opened.clear()
        streaming = AsgiRequest(endpoint.app).body(stream)
        await until(lambda: len(streaming.sent) > 1)
        await streaming.hang_up().task
        assert scripted.cancelled == 2
        assert endpoint.idle
        text = endpoint.gateway.metrics.text(with_keys=True)[0]
        assert b'route="/v1/chat/completions",status="499"} 2.0' in text
        assert b'status="500"' not in text

    asyncio.run(run())


@pytest.mark.parametrize("state", ["running", "waiting", "body"])
def test_a_cancelled_request_leaves_no_trace(scripted: Scripted, state: str) -> None:
    """Ray Serve cancels the task of a client that disconnected."""

    async def run() -> None:
        endpoint = Endpoint(scripted.routes, max_concurrent=1)
        first = AsgiRequest(endpoint.app).body(HOLD)
        await until(lambda: scripted.calls == 1)
        second = AsgiRequest(endpoint.app)
        if state == "body":
            second.body(b"{", more=True)
            await until(lambda: second.read == 1)
        else:
            second.body(HOLD)
            await until(lambda: endpoint.queue.waiting == 1)
        request = first if state == "running" else second
        request.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.task
        scripted.opened.set()
        await asyncio.gather(first.task, second.body(HOLD).task, return_exceptions=True)
        text = endpoint.gateway.metrics.text(with_keys=True)[0]
        assert b'status="499"' in text
        assert b'status="500"' not in text
        assert endpoint.idle

    asyncio.run(run())


def test_waiting_too_long_is_a_429(scripted: Scripted) -> None:
    async def run() -> None:
        endpoint = Endpoint(scripted.routes, max_concurrent=1, max_wait_s=0.05)
        first, second = (AsgiRequest(endpoint.app).body(HOLD) for _ in range(2))
        await second.task
        assert second.status == 429
        assert error(second.text)["code"] == "queue_timeout"
        scripted.opened.set()
        await first.task
        assert first.status == 200
        assert endpoint.idle

    asyncio.run(run())


def test_bodies_that_are_too_large_slow_or_broken_off(scripted: Scripted) -> None:
    async def run() -> None:
        app = (endpoint := Endpoint(scripted.routes, max_body_bytes=1000, body_timeout_s=0.05)).app
        chunked = AsgiRequest(app).body(b"x" * 600, more=True).body(b"x" * 600, more=True)
        declared = AsgiRequest(app, content_length="5000")
        slow = AsgiRequest(app).body(b"{", more=True)
        gone = AsgiRequest(app).body(b"{", more=True).hang_up()
        requests = (chunked, declared, slow, gone)
        await asyncio.gather(*(r.task for r in requests))
        assert [r.status for r in requests] == [413, 413, 408, None]
        assert slow.header("connection") == "close"
        assert declared.read == 0
        assert endpoint.idle
        assert scripted.calls == 0

    asyncio.run(run())


def test_drain_lets_open_requests_end_and_refuses_new_ones(scripted: Scripted) -> None:
    async def run() -> None:
        endpoint = Endpoint(scripted.routes, max_concurrent=1)
        running, waiting = (AsgiRequest(endpoint.app).body(HOLD) for _ in range(2))
        await until(lambda: endpoint.queue.waiting == 1)
        assert await endpoint.queue.drain(0.02) == 2
        drained = asyncio.ensure_future(endpoint.queue.drain(5))
        await asyncio.sleep(0)
        async with client(endpoint.app) as http:
            late = await http.post(CHAT, json=HI)
            assert late.status_code == 503
            assert int(late.headers["retry-after"]) > 0
            assert late.json()["error"]["code"] == "draining"
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/v1/models")).status_code == 503
        assert not drained.done()
        scripted.opened.set()
        assert await drained == 0
        assert (running.status, waiting.status) == (200, 200)

    asyncio.run(run())
