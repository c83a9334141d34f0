"""The gate as a whole, around a scripted application: no sleeps but where time is the matter."""

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from limo_ray.serve.gate import GateConfig, exposed
from limo_ray.serve.keys import Keys
from tests.serve.gates import CHAT, HI, KEY, Knock, Scripted, ask, client, gated, until

OTHER = "sk-beta-fedcba9876543210"


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text(f"alice {KEY}\nbob {OTHER}\n")
    return str(file)


def error(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    return body["error"]


# ---- keys


def test_without_a_key_401_in_openais_format(scripted: Scripted, keys: str) -> None:
    gate = gated(scripted.app, keys_file=keys)
    for headers, code in (
        ({}, "missing_api_key"),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
        ({"authorization": f"Basic {KEY}"}, "invalid_api_key"),
    ):
        for url, method in ((CHAT, "POST"), ("/v1/models", "GET"), ("/nowhere", "GET")):
            [response] = ask(gate, {"url": url, "method": method, "headers": headers, "json": HI})
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert error(response)["code"] == code
    assert scripted.calls == 0
    [response] = ask(gate, {"json": HI}, key=KEY)
    assert response.json()["usage"]["prompt_tokens"] == 10


def test_what_needs_no_key(scripted: Scripted, keys: str) -> None:
    scripted.app.get("/")(lambda: "page")
    scripted.app.get("/page.js")(lambda: "script")
    gate = gated(scripted.app, keys_file=keys)
    paths = ["/", "/page.js", "/health", "/ready", "/metrics"]
    answers = ask(gate, *({"method": "GET", "url": path} for path in paths))
    assert [a.status_code for a in answers] == [200] * 5
    assert [a.status_code for a in ask(gate, *({"url": path, "json": {}} for path in paths))] == [
        401
    ] * 5
    gate = gated(scripted.app, keys_file=keys, metrics_open=False)
    assert [a.status_code for a in ask(gate, {"method": "GET", "url": "/metrics"})] == [401]
    assert [a.status_code for a in ask(gate, {"method": "GET", "url": "/metrics"}, key=KEY)] == [
        200
    ]


def test_a_key_taken_from_the_file_is_out_within_a_second(scripted: Scripted, keys: str) -> None:
    gate = gated(scripted.app, keys_file=keys, rpm=10)
    gate.keys.every = 0.0
    assert ask(gate, {"json": HI}, key=KEY)[0].status_code == 200
    Path(keys).write_text(f"bob {OTHER}\n")
    os.utime(keys, ns=(1, 1))
    assert ask(gate, {"json": HI}, key=KEY)[0].status_code == 401
    assert ask(gate, {"json": HI}, key=OTHER)[0].status_code == 200
    assert set(gate.limiter.requests) == {"bob"}


def test_no_key_in_logs_metrics_or_answers(
    scripted: Scripted, keys: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gated(scripted.app, keys_file=keys, rpm=2)
    with caplog.at_level(logging.DEBUG):
        answers = [
            *ask(gate, *[{"json": {**HI, "script": s}} for s in ("", "boom", "")], key=KEY),
            *ask(gate, {"json": HI}, key=f"{KEY}x"),
            *ask(gate, {"method": "GET", "url": "/metrics"}),
        ]
    assert [a.status_code for a in answers] == [200, 500, 429, 401, 200]
    assert 'key="alice"' in answers[-1].text
    assert "key=alice" in caplog.text
    for text in (caplog.text, *(a.text + str(a.headers) for a in answers)):
        assert "0123456789abcdef" not in text


def test_open_to_all_is_warned_of_except_on_localhost(keys: str) -> None:
    assert "0.0.0.0" in (exposed(Keys("", ""), "0.0.0.0") or "")
    assert exposed(Keys("", ""), "127.0.0.1") is None
    assert exposed(Keys(keys, ""), "0.0.0.0") is None


# ---- limits


def test_requests_per_minute_of_each_key(scripted: Scripted, keys: str) -> None:
    now = 0.0
    gate = gated(scripted.app, keys_file=keys, rpm=3)
    gate.clock = lambda: now
    answers = ask(gate, *[{"json": HI}] * 4, key=KEY)
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["x-ratelimit-remaining-requests"] for a in answers] == ["2", "1", "0", "0"]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert answers[3].headers["retry-after"] == "20"
    assert answers[3].headers["x-ratelimit-reset-requests"] == "1m0s"
    assert error(answers[3])["code"] == "rate_limit_exceeded"
    assert ask(gate, {"json": HI}, key=OTHER)[0].status_code == 200
    now = 0.3  # 19.7 s are told as 20: who comes after 19 is early
    assert ask(gate, {"json": HI}, key=KEY)[0].headers["retry-after"] == "20"
    now = 20.0
    assert ask(gate, {"json": HI}, key=KEY)[0].status_code == 200


@pytest.mark.parametrize(
    ("request_", "used", "and_prompt"),
    [
        ({}, 40, False),  # 10 + 30 by the answer's usage
        ({"stream": True}, 9, False),  # 4 + 5 by the stream's
        ({"stream": True, "script": "silent"}, 5, True),  # events and the prompt's estimate
        ({"script": "state"}, 3, False),  # by the application's own word
        ({"script": "boom"}, 0, False),  # an error costs nothing
        ({"script": "silent", "max_tokens": 70}, 70, True),  # nothing known: what was set aside
    ],
)
def test_tokens_are_settled_by_what_was_used(
    scripted: Scripted, request_: dict[str, Any], used: int, and_prompt: bool
) -> None:
    gate = gated(scripted.app, tpm=1000, reserve_tokens=100)
    gate.clock = lambda: 0.0
    body = json.dumps({**HI, **request_}, separators=(",", ":"))
    [answer] = ask(gate, {"content": body, "headers": {"content-type": "application/json"}})
    prompt = len(body) // 4
    aside = prompt + request_.get("max_tokens", 100)
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - aside)
    assert gate.limiter.tokens["anonymous"].level == 1000 - used - (prompt if and_prompt else 0)


def test_tokens_per_minute_are_refused_before_the_engine_sees_them(scripted: Scripted) -> None:
    gate = gated(scripted.app, tpm=100)
    gate.clock = lambda: 0.0
    answers = ask(gate, *[{"json": {**HI, "max_tokens": 60}}] * 4)
    # 40 of 100 are used each time; the third finds 20 of the 80 or so that it may need
    assert [a.status_code for a in answers] == [200, 429, 429, 429]
    assert scripted.calls == 1
    assert int(answers[1].headers["retry-after"]) >= 1


# ---- the queue


def test_the_queue_is_bounded_and_refuses_with_retry_after(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, max_concurrent=2, max_queue=3)
        body = json.dumps({**HI, "script": "hold"}).encode()
        knocks = [Knock(gate).body(body) for _ in range(8)]
        await until(lambda: sum(k.task.done() for k in knocks) == 3)
        assert scripted.calls == 2
        refused = [k for k in knocks if k.task.done()]
        assert {k.status for k in refused} == {429}
        assert all(1 <= int(k.header("retry-after") or 0) <= 60 for k in refused)
        assert json.loads(refused[0].text)["error"]["code"] == "queue_full"
        scripted.opened.set()
        await asyncio.gather(*(k.task for k in knocks))
        assert sorted(k.status for k in knocks) == [200] * 5 + [429] * 3
        assert scripted.most == 2
        assert (gate.queue.inside, gate.queue.waiting, gate.busy) == (0, 0, 0)

    asyncio.run(run())


def test_who_hangs_up_leaves_the_queue_and_the_inside(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, max_concurrent=1, max_queue=5, rpm=100, tpm=10_000)
        gate.clock = lambda: 0.0
        body = json.dumps({**HI, "script": "hold"}).encode()
        inside, waiting, last = (Knock(gate).body(body) for _ in range(3))
        await until(lambda: gate.queue.waiting == 2)
        waiting.hang_up()
        await waiting.task
        assert (gate.queue.inside, gate.queue.waiting) == (1, 1)
        assert waiting.sent == []
        inside.hang_up()  # its place goes to the last one
        await inside.task
        await until(lambda: scripted.calls == 2)
        assert scripted.cancelled == 1
        scripted.opened.set()
        await last.task
        assert last.status == 200
        assert (gate.queue.inside, gate.queue.waiting, gate.busy) == (0, 0, 0)
        # the one that never got in costs nothing; the one cut off costs what was set aside
        assert gate.limiter.requests["anonymous"].level == 98
        assert gate.limiter.tokens["anonymous"].level == 10_000 - 40 - (2048 + len(body) // 4)

    asyncio.run(run())


def test_a_stream_whose_client_hangs_up_is_cancelled(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, tpm=10_000)
        gate.clock = lambda: 0.0
        body = json.dumps({**HI, "stream": True, "script": "endless"}).encode()
        knock = Knock(gate).body(body)
        await until(lambda: b"0" in knock.text)
        knock.hang_up()
        await knock.task
        assert scripted.cancelled == 1
        assert knock.task.cancelling() == 0  # the server's own cancellation is told from ours
        assert gate.limiter.tokens["anonymous"].level == 10_000 - len(body) // 4 - 1

    asyncio.run(run())


@pytest.mark.parametrize("place", ["inside", "waiting", "body"])
def test_a_cancelled_request_leaves_no_trace(scripted: Scripted, place: str) -> None:
    """Ray Serve tells of a client that hung up by cancelling the task."""

    async def run() -> None:
        gate = gated(scripted.app, max_concurrent=1, rpm=10)
        body = json.dumps({**HI, "script": "hold"}).encode()
        first = Knock(gate).body(body)
        await until(lambda: scripted.calls == 1)
        second = Knock(gate)
        if place == "body":
            second.body(b"{", more=True)
        else:
            second.body(body)
            await until(lambda: gate.queue.waiting == 1)
        knock = first if place == "inside" else second
        await asyncio.sleep(0)
        knock.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await knock.task
        scripted.opened.set()
        await asyncio.gather(first.task, second.body(body).task, return_exceptions=True)
        assert b'status="499"' in gate.metrics.text()[0]
        assert b'status="500"' not in gate.metrics.text()[0]
        assert (gate.queue.inside, gate.queue.waiting, gate.busy, gate.reading) == (0, 0, 0, 0)

    asyncio.run(run())


def test_waiting_too_long_is_a_429(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, max_concurrent=1, max_wait_s=0.05)
        body = json.dumps({**HI, "script": "hold"}).encode()
        first, second = Knock(gate).body(body), Knock(gate).body(body)
        await second.task
        assert second.status == 429
        assert json.loads(second.text)["error"]["code"] == "queue_timeout"
        scripted.opened.set()
        await first.task
        assert first.status == 200

    asyncio.run(run())


def test_a_busy_key_does_not_hold_up_a_quiet_one(scripted: Scripted, keys: str) -> None:
    async def run() -> None:
        gate = gated(scripted.app, keys_file=keys, max_concurrent=1)

        def knock(key: str, name: str, script: str = "") -> Knock:
            body = {"messages": [{"role": "user", "content": name}], "script": script}
            return Knock(gate, authorization=f"Bearer {key}").body(json.dumps(body).encode())

        knocks = [knock(KEY, "a0", "hold")]
        await until(lambda: scripted.calls == 1)
        knocks += [knock(KEY, f"a{n}") for n in range(1, 6)]
        await until(lambda: gate.queue.waiting == 5)
        knocks.append(knock(OTHER, "b"))
        await until(lambda: gate.queue.waiting == 6)
        scripted.opened.set()
        await asyncio.gather(*(k.task for k in knocks))
        assert scripted.order.index("['b']") <= 2

    asyncio.run(run())


def test_a_key_that_fills_the_queue_makes_room_for_another(scripted: Scripted, keys: str) -> None:
    async def run() -> None:
        gate = gated(scripted.app, keys_file=keys, max_concurrent=1, max_queue=2, rpm=100)
        body = json.dumps({**HI, "script": "hold"}).encode()
        greedy = [Knock(gate, authorization=f"Bearer {KEY}").body(body) for _ in range(3)]
        await until(lambda: gate.queue.waiting == 2)
        quiet = Knock(gate, authorization=f"Bearer {OTHER}").body(body)
        await greedy[2].task
        assert greedy[2].status == 429
        assert gate.limiter.requests["alice"].level == pytest.approx(98, abs=0.1)
        scripted.opened.set()
        await asyncio.gather(*(k.task for k in (*greedy, quiet)))
        assert [k.status for k in (*greedy, quiet)] == [200, 200, 429, 200]
        assert (gate.queue.inside, gate.queue.waiting) == (0, 0)

    asyncio.run(run())


# ---- bodies and errors


def test_an_answer_goes_out_piece_by_piece_and_as_it_is(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        knock = Knock(gated(scripted.app)).body(json.dumps({**HI, "stream": True}).encode())
        await knock.task
        pieces = [m["body"] for m in knock.sent[1:]]
        assert len(pieces) == 9  # five words, usage in two pieces, DONE, the end
        assert pieces[-2:] == [b"data: [DONE]\n\n", b""]
        assert [m["more_body"] for m in knock.sent[1:]] == [True] * 8 + [False]

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert caplog.text == ""


def test_no_more_bodies_are_read_at_once_than_may_go_in_or_wait(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, max_concurrent=1, max_queue=1)
        slow = [Knock(gate).body(b"{", more=True) for _ in range(2)]
        await asyncio.sleep(0)
        third = Knock(gate).body(json.dumps(HI).encode())
        await third.task
        assert third.status == 429
        for knock in slow:
            await knock.hang_up().task
        assert gate.reading == 0

    asyncio.run(run())


def test_bodies_that_are_too_large_slow_or_broken_off(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, max_body_bytes=1000, body_timeout_s=0.05)
        chunked = Knock(gate).body(b"x" * 600, more=True).body(b"x" * 600, more=True)
        declared = Knock(gate, content_length="5000")
        slow = Knock(gate).body(b"{", more=True)
        gone = Knock(gate).body(b"{", more=True).hang_up()
        await asyncio.gather(*(k.task for k in (chunked, declared, slow, gone)))
        assert [k.status for k in (chunked, declared, slow, gone)] == [413, 413, 408, None]
        assert slow.header("connection") == "close"
        assert gate.reading == 0
        assert scripted.calls == 0

    asyncio.run(run())


def test_an_exception_is_a_500_with_an_id_that_the_log_knows(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gated(scripted.app)
    [answer] = ask(gate, {"json": {**HI, "script": "boom"}})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in error(answer)["message"]
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "a secret of the engine" in caplog.text


def test_a_stream_that_breaks_says_so_in_an_event(scripted: Scripted) -> None:
    gate = gated(scripted.app)
    [answer] = ask(gate, {"json": {**HI, "stream": True, "script": "break"}})
    last = answer.text.strip().split("\n\n")[-1]
    assert last.startswith("data: ")
    told = json.loads(last.removeprefix("data: "))["error"]
    assert answer.headers["x-request-id"] in told["message"]
    assert "DONE" not in answer.text
    assert "secret" not in answer.text


def test_an_app_that_answers_nothing_or_half(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError("broken")

    [answer] = ask(gated(nothing), {"json": HI})
    assert answer.status_code == 500
    with pytest.raises(RuntimeError, match="broken"):  # the server breaks the connection off
        ask(gated(half), {"json": HI})


def test_errors_of_the_app_in_openais_format(scripted: Scripted) -> None:
    gate = gated(scripted.app)
    answers = ask(
        gate,
        {"method": "GET", "url": "/v1/nothing"},
        {"method": "GET"},
        {"json": {"messages": 3}},
        {"method": "GET", "url": "/v1/fail"},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"json": {**HI, "max_tokens": 10**9}},
        {"json": {**HI, "n": 10**6}},
    )
    assert [a.status_code for a in answers] == [404, 405, 400, 418, 400, 400, 400]
    told = [error(a) for a in answers]
    assert answers[1].headers["allow"] == "POST"
    assert told[2]["param"] == "messages"
    assert [t["param"] for t in told[5:]] == ["max_tokens", "n"]
    assert all(int(a.headers["content-length"]) == len(a.content) for a in answers)


def test_a_websocket_does_not_get_past_the_gate(scripted: Scripted) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(gated(scripted.app)({"type": "websocket", "path": "/"}, asyncio.Queue().get, send))
    assert [m["type"] for m in sent] == ["websocket.close"]


# ---- health, drain, metrics, log


def test_ready_asks_the_application_once_a_second(scripted: Scripted) -> None:
    now, asked, state = 0.0, 0, True

    async def ready() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise RuntimeError("no replica")
        return state

    from limo_ray.serve.gate import Gate

    gate = Gate(scripted.app, GateConfig(keys_env=""), ready=ready, clock=lambda: now)

    async def run() -> list[int]:
        nonlocal now, state
        seen = []
        async with client(gate) as http:
            for moment, value in (
                (0.0, True),
                (0.5, False),
                (1.0, False),
                (2.0, True),
                (3.0, True),
            ):
                now, state = moment, value
                seen.append((await http.get("/ready")).status_code)
            assert (await http.get("/health")).json() == {"status": "alive"}
        return seen

    assert asyncio.run(run()) == [200, 200, 503, 503, 200]
    assert asked == 4


def test_drain_lets_those_inside_finish_and_nobody_in(scripted: Scripted) -> None:
    async def run() -> None:
        gate = gated(scripted.app, max_concurrent=1)
        body = json.dumps({**HI, "script": "hold"}).encode()
        inside, waiting = Knock(gate).body(body), Knock(gate).body(body)
        await until(lambda: gate.queue.waiting == 1)
        assert await gate.drain(timeout=0.02) == 2
        drained = asyncio.ensure_future(gate.drain(timeout=5))
        await asyncio.sleep(0)
        async with client(gate) as http:
            late = await http.post(CHAT, json=HI)
            assert late.status_code == 503
            assert int(late.headers["retry-after"]) > 0
            assert error(late)["code"] == "draining"
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/v1/models")).status_code == 503
        assert not drained.done()
        scripted.opened.set()
        assert await drained == 0
        assert (inside.status, waiting.status) == (200, 200)

    asyncio.run(run())


def test_metrics_count_what_happened_under_few_labels(scripted: Scripted) -> None:
    gate = gated(scripted.app, max_concurrent=5)
    ask(gate, {"json": HI}, {"json": {**HI, "stream": True}}, {"json": {**HI, "script": "boom"}})
    ask(gate, *({"method": "GET", "url": f"/made/up/{n}?{n}"} for n in range(50)))
    ask(gate, *({"method": "GET", "url": f"/v1/models/{n}"} for n in range(50)))
    ask(gate, *({"method": f"M{n}", "url": CHAT} for n in range(20)), {"content": b"x"})
    [answer] = ask(gate, {"method": "GET", "url": "/metrics"})
    lines = answer.text.splitlines()
    for line in (
        'limo_ray_requests_total{key="anonymous",route="/v1/chat/completions",status="200"} 2.0',
        'limo_ray_requests_total{key="anonymous",route="/v1/chat/completions",status="500"} 1.0',
        'limo_ray_requests_total{key="anonymous",route="other",status="404"} 50.0',
        'limo_ray_tokens_total{direction="in",key="anonymous"} 14.0',
        'limo_ray_tokens_total{direction="out",key="anonymous"} 35.0',
        'limo_ray_refused_total{reason="body"} 1.0',
        'limo_ray_first_byte_seconds_count{route="/v1/chat/completions"} 24.0',
        "limo_ray_inside 0.0",
        "limo_ray_waiting 0.0",
    ):
        assert line in lines, line
    assert "made" not in answer.text
    assert len(lines) < 300


def test_the_log_has_one_line_per_request_and_the_id_goes_through(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gated(scripted.app)
    with caplog.at_level(logging.INFO, "limo_ray.access"):
        answers = ask(
            gate,
            {"json": HI, "headers": {"x-request-id": "mine-1"}},
            {"json": HI, "headers": {"x-request-id": "not allowed\x7f"}},
            {"method": "GET", "url": "/v1/%0Aforged%20line?key=secret"},
        )
    lines = [r.getMessage() for r in caplog.records if r.name == "limo_ray.access"]
    assert len(lines) == 3
    assert answers[0].headers["x-request-id"] == "mine-1"
    assert len(answers[1].headers["x-request-id"]) == 32
    assert "id=mine-1" in lines[0]
    assert "in=10 out=30" in lines[0]
    assert "\n" not in lines[2]
    assert "secret" not in lines[2]


def test_the_log_goes_to_a_file_once(scripted: Scripted, tmp_path: Path) -> None:
    file, access = tmp_path / "access.log", logging.getLogger("limo_ray.access")
    before = (list(access.handlers), access.propagate)
    try:
        for _ in range(2):
            gate = gated(scripted.app, access_log=str(file))
        ask(gate, {"json": HI})
        assert len(file.read_text().splitlines()) == 1
        with pytest.raises(ValueError, match="access_log"):
            gated(scripted.app, access_log=str(tmp_path / "none" / "log"))
    finally:
        access.handlers, access.propagate = before


def test_a_proxy_may_name_the_requests(scripted: Scripted) -> None:
    """Ray Serve's does: two headers would be one header with two ids."""
    gate = gated(scripted.app)
    gate.id_header = False
    answers = ask(gate, {"json": HI}, {"json": {**HI, "script": "boom"}})
    assert not any("x-request-id" in answer.headers for answer in answers)


def test_cors_is_off_unless_asked_for(scripted: Scripted) -> None:
    page = "https://page.example"
    preflight = {
        "method": "OPTIONS",
        "headers": {"origin": page, "access-control-request-method": "POST"},
    }
    [off] = ask(gated(scripted.app), preflight)
    assert "access-control-allow-origin" not in off.headers
    gate = gated(scripted.app, cors_origins=[page])
    answers = ask(
        gate, preflight, {"json": HI, "headers": {"origin": page}},
        {"json": HI, "headers": {"origin": "https://other.example"}},
    )  # fmt: skip
    assert answers[0].status_code == 204
    assert [a.headers.get("access-control-allow-origin") for a in answers] == [page, page, None]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rpm", -1),
        ("max_concurrent", 0),
        ("max_wait_s", 0.0),
        ("keys_env", "a b"),
        ("max_depth", 999),
        ("body_timeout_s", float("nan")),
    ],
)
def test_a_wrong_config_names_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: {value}"):
        GateConfig(**{field: value}).check()
    with pytest.raises(ValueError, match="cors_origins: page"):
        GateConfig(cors_origins=["page"]).check()
