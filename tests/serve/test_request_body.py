"""Bodies: what is read, refused and parsed."""

import asyncio
import json
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.serve import request_body
from limo_ray.serve.config import GateConfig
from limo_ray.serve.errors import ApiError

JSON = "application/json"


def parse(body: bytes, kind: str = JSON) -> dict[str, Any]:
    return asyncio.run(request_body.parse({b"content-type": kind.encode()}, body, GateConfig()))


HOSTILE = [
    b"", b"{", b"null", b"[]", b'"x"', b"3", b"{} {}", b"{'a': 1}", b'{"a": 1,}', b'{"a": 01}',
    b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": ' + b"9" * 30 + b"}",
    b'{"a": ' + b"9" * 100_000 + b"}", b'{"a": 9223372036854775808}',
    b'{"a": "\xff"}', b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), b'{"a": "\x00"}',
    b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": ["\\uDC00x"]}',
    b'{"a":' * 100_000, b'{"a":' * 100 + b"1" + b"}" * 100,
    b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_not_plain_json_is_a_400(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
def test_another_content_type_is_a_400(kind: str) -> None:
    with pytest.raises(ApiError, match=r"Content-Type|UTF-8") as caught:
        parse(b"{}", kind)
    assert caught.value.code == "bad_content_type"


@pytest.mark.parametrize("kind", [JSON, "Application/JSON", 'application/json; charset="UTF-8"'])
def test_json_is_json(kind: str) -> None:
    body = '{"a": [1, -2.5e3, "\\ud83d\\ude00ü", {"b": null}], "n": -9223372036854775807}'
    assert parse(body.encode(), kind) == json.loads(body)


texts = st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | texts
leaves |= st.floats(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3), max_leaves=8
)


@settings(deadline=None)
@given(st.dictionaries(texts, trees, max_size=3))
def test_all_tame_json_comes_through_as_it_is(value: dict[str, Any]) -> None:
    assert request_body.decode(json.dumps(value).encode(), 64) == value
    assert request_body.decode(json.dumps(value, ensure_ascii=False).encode(), 64) == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_400(body: bytes) -> None:
    try:
        parse(body)
    except ApiError as refusal:
        assert refusal.status == 400


LIMITS = GateConfig(max_tokens=100, max_n=4, max_messages=3)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_completion_tokens": 2**40}, "max_completion_tokens"),
        ({"max_tokens": "999999"}, "max_tokens"),  # pydantic would take it for 999999
        ({"max_tokens": 999999.0}, "max_tokens"),
        ({"n": True}, "n"),
        ({"n": 5}, "n"),
        ({"best_of": 5}, "best_of"),
        ({"prompt": ["a"] * 5}, "prompt"),
        ({"prompt": [[1], [2], [3]], "n": 2}, "prompt"),
        ({"messages": [{}] * 4}, "messages"),
        ({"stop": ["x"] * 65}, "stop"),
    ],
)
def test_more_than_the_bounds_is_a_400_that_names_the_field(
    request_: dict[str, Any], param: str
) -> None:
    with pytest.raises(ApiError) as caught:
        request_body.check_bounds(request_, LIMITS)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "request_",
    [
        {}, {"max_tokens": 100, "n": 4}, {"max_tokens": None, "n": None}, {"max_tokens": -1},
        {"prompt": [1] * 500}, {"prompt": []}, {"prompt": [[1, 2], [3]], "n": 2}, {"messages": "x"},
    ],
)  # fmt: skip
def test_within_the_bounds_goes_on(request_: dict[str, Any]) -> None:
    request_body.check_bounds(request_, LIMITS)


def test_a_large_body_is_parsed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    decode = request_body.decode

    def recorded(body: bytes, max_depth: int) -> dict[str, Any]:
        threads.append(threading.current_thread().name)
        return decode(body, max_depth)

    monkeypatch.setattr(request_body, "decode", recorded)
    for size in (1000, 300_000):
        body = json.dumps({"a": "x" * size}).encode()
        assert parse(body) == json.loads(body)
    assert threads[0] == "MainThread" != threads[1]


def read(*pieces: bytes, declared: str = "", end: bool = True) -> bytes:
    messages = [
        {"type": "http.request", "body": piece, "more_body": not end or i < len(pieces) - 1}
        for i, piece in enumerate(pieces)
    ]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.sleep(30)
        return messages.pop(0)

    config = GateConfig(max_body_bytes=10, body_timeout_s=0.05)
    return asyncio.run(request_body.read({b"content-length": declared.encode()}, receive, config))


def test_pieces_make_a_body() -> None:
    assert read(b"ab", b"", b"cd") == b"abcd"
    assert read(b"x" * 10) == b"x" * 10


@pytest.mark.parametrize(
    ("pieces", "declared"),
    [
        ([b"x" * 11], ""), ([b"x" * 6, b"x" * 6], ""), ([b"x" * 11], "3"), ([], "11"),
        ([], "9" * 40),
    ],
)  # fmt: skip
def test_a_large_body_is_a_413_whatever_it_declares(pieces: list[bytes], declared: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(*pieces, declared=declared)
    assert caught.value.status == 413


def test_a_slow_body_is_a_408() -> None:
    with pytest.raises(ApiError) as caught:
        read(b"x", end=False)
    assert caught.value.status == 408
