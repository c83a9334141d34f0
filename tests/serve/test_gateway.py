"""The middleware around a scripted application: keys, rate limits, errors, metrics, the log."""

import asyncio
import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from limo_ray.serve.config import GateConfig
from limo_ray.serve.gateway import Gateway
from limo_ray.serve.health import Readiness
from tests.serve.scripted import CHAT, HI, KEY, OTHER, AsgiRequest, Endpoint, Scripted, ask


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def keys(tmp_path: Path) -> str:
    file = tmp_path / "keys"
    file.write_text(f"alice {KEY}\nbob {OTHER}\n")
    return str(file)


class Clock:
    """The time of the rate limits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 6_000_000.0  # a minute begins
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def error(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    return body["error"]


def get(url: str) -> dict[str, Any]:
    return {"method": "GET", "url": url}


def statuses(answers: Any) -> list[int]:
    return [answer.status_code for answer in answers]


# ---- keys


def test_without_a_key_401_in_openais_format(scripted: Scripted, keys: str) -> None:
    app = Endpoint(scripted.routes, keys_file=keys).app
    for headers, code in (
        ({}, "missing_api_key"),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
        ({"authorization": f"Basic {KEY}"}, "invalid_api_key"),
    ):
        for url, method in ((CHAT, "POST"), ("/v1/models", "GET"), ("/nowhere", "GET")):
            [response] = ask(app, {"url": url, "method": method, "headers": headers, "json": HI})
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert error(response)["code"] == code
    assert scripted.calls == 0
    [response] = ask(app, {"json": HI}, key=KEY)
    assert response.json()["usage"]["prompt_tokens"] == 10


def test_what_needs_no_key(scripted: Scripted, keys: str) -> None:
    page = [Route(path, lambda _: PlainTextResponse("page")) for path in ("/", "/page.js")]
    app = Endpoint([*scripted.routes, *page], keys_file=keys).app
    paths = ["/", "/page.js", "/health", "/ready", "/metrics"]
    assert statuses(ask(app, *map(get, paths))) == [200] * 5
    assert statuses(ask(app, *({"url": path, "json": {}} for path in paths))) == [401] * 5
    app = Endpoint(scripted.routes, keys_file=keys, metrics_open=False).app
    assert statuses(ask(app, get("/metrics"))) == [401]
    assert statuses(ask(app, get("/metrics"), key=KEY)) == [200]


def test_a_key_taken_from_the_file_is_out_within_a_second(scripted: Scripted, keys: str) -> None:
    endpoint = Endpoint(scripted.routes, keys_file=keys)
    endpoint.gateway.keys.interval_s = 0.0
    assert statuses(ask(endpoint.app, {"json": HI}, key=KEY)) == [200]
    Path(keys).write_text(f"bob {OTHER}\n")
    os.utime(keys, ns=(1, 1))
    assert statuses(ask(endpoint.app, {"json": HI}, key=KEY)) == [401]
    assert statuses(ask(endpoint.app, {"json": HI}, key=OTHER)) == [200]


def test_no_key_in_logs_metrics_or_answers(
    scripted: Scripted, keys: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Endpoint(scripted.routes, keys_file=keys, rpm=2).app
    with caplog.at_level(logging.DEBUG):
        answers = [
            *ask(app, *[{"json": {**HI, "script": s}} for s in ("", "boom", "")], key=KEY),
            *ask(app, {"json": HI}, key=f"{KEY}x"),
            *ask(app, get("/metrics"), key=KEY),
        ]
    assert statuses(answers) == [200, 500, 429, 401, 200]
    assert "key=alice" in caplog.text
    for text in (caplog.text, *(a.text + str(a.headers) for a in answers)):
        assert "0123456789abcdef" not in text


def test_metrics_name_keys_only_to_those_who_have_one(scripted: Scripted, keys: str) -> None:
    app = Endpoint(scripted.routes, keys_file=keys).app
    for key in (KEY, OTHER):
        ask(app, {"json": HI}, key=key)
    [own], [open_] = ask(app, get("/metrics"), key=KEY), ask(app, get("/metrics"))
    assert 'limo_ray_key_tokens_total{direction="out",key="alice"} 30.0' in own.text
    assert 'limo_ray_key_requests_total{key="bob",status="200"} 1.0' in own.text
    assert open_.status_code == 200
    assert 'limo_ray_tokens_total{direction="out"} 60.0' in open_.text
    assert f'limo_ray_requests_total{{route="{CHAT}",status="200"}} 2.0' in open_.text
    assert "limo_ray_wait_seconds_count 2.0" in open_.text
    for name in ("alice", "bob", "key="):
        assert name not in open_.text


def test_open_to_all_is_warned_of_except_on_localhost(
    scripted: Scripted, keys: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ready() -> bool:
        return True

    Gateway(GateConfig(keys_env=""), ready=ready, host="127.0.0.1")
    Gateway(GateConfig(keys_env="", keys_file=keys), ready=ready, host="0.0.0.0")
    assert caplog.text == ""
    Gateway(GateConfig(keys_env=""), ready=ready, host="0.0.0.0")
    assert "everybody who reaches 0.0.0.0" in caplog.text


# ---- requests per minute


def test_requests_per_minute_of_each_key(scripted: Scripted, keys: str, clock: Clock) -> None:
    app = Endpoint(scripted.routes, keys_file=keys, rpm=3).app
    answers = ask(app, *[{"json": HI}] * 4, key=KEY)
    assert statuses(answers) == [200, 200, 200, 429]
    assert error(answers[3])["code"] == "rate_limit_exceeded"
    assert statuses(ask(app, {"json": HI}, key=OTHER)) == [200]
    clock.now += 0.3
    [refused] = ask(app, {"json": HI}, key=KEY)
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 60
    clock.now += wait
    assert statuses(ask(app, {"json": HI}, key=KEY)) == [200]


def test_in_no_minute_does_a_key_get_more_than_its_limit(
    scripted: Scripted, tmp_path: Path, clock: Clock
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice {KEY} rpm=5\nbob {OTHER} rpm=0\n")
    app = Endpoint(scripted.routes, keys_file=str(file), rpm=1).app
    allowed: list[float] = []
    for _ in range(60):
        clock.now += 3.7
        if statuses(ask(app, {"json": HI}, key=KEY)) == [200]:
            allowed.append(clock.now)
    assert len(allowed) >= 5 * 3  # a bit less than four minutes
    for begin in allowed:  # a sliding window takes the minute before as spread evenly
        assert sum(begin <= at < begin + 60 for at in allowed) <= math.ceil(5 * 1.2)
    assert statuses(ask(app, *[{"json": HI}] * 20, key=OTHER)) == [200] * 20


def test_the_rate_is_checked_before_the_body_is_read(scripted: Scripted, clock: Clock) -> None:
    async def run() -> None:
        app = Endpoint(scripted.routes, rpm=1).app
        first = AsgiRequest(app).body(json.dumps(HI).encode())
        await first.task
        second = AsgiRequest(app, content_length="1000000").body(b"{", more=True)
        await second.task
        assert (first.status, second.status) == (200, 429)
        assert second.read == 0

    asyncio.run(run())


# ---- answers and errors


def test_an_answer_goes_out_piece_by_piece_and_as_it_is(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        app = Endpoint(scripted.routes).app
        request = AsgiRequest(app).body(json.dumps({**HI, "stream": True}).encode())
        await request.task
        pieces = [message["body"] for message in request.sent[1:]]
        assert len(pieces) == 7  # five words, DONE, the end
        assert pieces[-2:] == [b"data: [DONE]\n\n", b""]
        assert [message["more_body"] for message in request.sent[1:]] == [True] * 6 + [False]

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert caplog.text == ""


def test_an_exception_is_a_500_with_an_id_that_the_log_knows(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    [answer] = ask(Endpoint(scripted.routes).app, {"json": {**HI, "script": "boom"}})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in error(answer)["message"]
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "a secret of the engine" in caplog.text


def test_a_stream_that_breaks_ends_with_an_error_event(scripted: Scripted) -> None:
    app = Endpoint(scripted.routes).app
    [answer] = ask(app, {"json": {**HI, "stream": True, "script": "break"}})
    last = answer.text.strip().split("\n\n")[-1]
    assert last.startswith("data: ")
    found = json.loads(last.removeprefix("data: "))["error"]
    assert answer.headers["x-request-id"] in found["message"]
    assert "DONE" not in answer.text
    assert "secret" not in answer.text


def test_an_app_that_breaks_in_its_answer() -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):  # the server closes the connection
        ask(Endpoint([Mount("/", half)]).app, {"json": HI})


def test_errors_are_openais(scripted: Scripted) -> None:
    answers = ask(
        Endpoint(scripted.routes).app,
        get("/v1/nothing"),
        {"method": "GET"},
        get("/v1/fail"),
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b'{"a":' * 30_000, "headers": {"content-type": "application/json"}},
        {"json": {**HI, "max_tokens": 10**9}},
        {"json": {**HI, "n": 10**6}},
    )
    assert statuses(answers) == [404, 405, 418, 400, 400, 400, 400]
    found = [error(answer) for answer in answers]
    assert (found[0]["code"], found[1]["code"]) == ("unknown_url", "bad_method")
    assert answers[1].headers["allow"] == "POST"
    assert [each["param"] for each in found[5:]] == ["max_tokens", "n"]
    assert all(int(a.headers["content-length"]) == len(a.content) for a in answers)


def test_a_websocket_does_not_get_past_the_middleware(scripted: Scripted) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": []}
    asyncio.run(Endpoint(scripted.routes).app(scope, asyncio.Queue().get, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


# ---- readiness, metrics, log


def test_readiness_asks_the_application_once_a_second() -> None:
    now, asked, state = 0.0, 0, True

    async def ask_() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise RuntimeError("no replica")
        return state

    async def run() -> list[bool]:
        nonlocal now, state
        readiness = Readiness(ask_, lambda: now)
        seen = []
        for now, state in ((0.0, True), (0.5, False), (1.0, False), (2.0, True), (3.0, True)):  # noqa: B007
            seen.append(await readiness())
        return seen

    assert asyncio.run(run()) == [True, True, False, False, True]
    assert asked == 4


def test_ready_is_503_until_a_replica_is(scripted: Scripted) -> None:
    endpoint = Endpoint(scripted.routes)
    endpoint.ready = False
    [waiting] = ask(endpoint.app, get("/ready"))
    assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "5")
    assert statuses(ask(endpoint.app, get("/health"))) == [200]
    endpoint = Endpoint(scripted.routes)
    assert statuses(ask(endpoint.app, get("/ready"))) == [200]


def test_metrics_count_what_happened_under_few_labels(scripted: Scripted) -> None:
    app = Endpoint(scripted.routes, max_concurrent=5).app
    ask(app, {"json": HI}, {"json": {**HI, "stream": True}}, {"json": {**HI, "script": "boom"}})
    ask(app, *(get(f"/made/up/{n}?{n}") for n in range(50)))
    ask(app, *(get(f"/v1/models/{n}") for n in range(50)))
    ask(app, *({"method": f"M{n}", "url": CHAT} for n in range(20)), {"content": b"x"})
    [answer] = ask(app, get("/metrics"))
    lines = answer.text.splitlines()
    for line in (
        'limo_ray_requests_total{route="/v1/chat/completions",status="200"} 2.0',
        'limo_ray_requests_total{route="/v1/chat/completions",status="500"} 1.0',
        'limo_ray_requests_total{route="other",status="404"} 100.0',
        'limo_ray_tokens_total{direction="in"} 10.0',
        'limo_ray_tokens_total{direction="out"} 30.0',
        'limo_ray_refused_total{reason="bad_content_type"} 1.0',
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
    with caplog.at_level(logging.INFO, "limo_ray.access"):
        answers = ask(
            Endpoint(scripted.routes).app,
            {"json": HI, "headers": {"x-request-id": "mine-1"}},
            {"json": HI, "headers": {"x-request-id": "not allowed\x7f"}},
            get("/v1/%0Aforged%20line?key=secret"),
        )
    lines = [r.getMessage() for r in caplog.records if r.name == "limo_ray.access"]
    assert len(lines) == 3
    assert answers[0].headers["x-request-id"] == "mine-1"
    assert len(answers[1].headers["x-request-id"]) == 32
    assert "id=mine-1" in lines[0]
    assert "in=10 out=30" in lines[0]
    assert "\n" not in lines[2]
    assert "secret" not in lines[2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rpm", -1), ("max_concurrent", 0), ("max_wait_s", 0.0), ("keys_env", "a b"),
        ("max_depth", 999), ("body_timeout_s", float("nan")), ("header_timeout_s", 0.0),
        ("max_connections_per_address", 0),
    ],
)  # fmt: skip
def test_a_wrong_config_names_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: {value}"):
        GateConfig(**{field: value}).check()
