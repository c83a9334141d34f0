"""Bodies: what is read, refused and parsed; tokens read from answers."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limo_ray.serve import bodies
from limo_ray.serve.errors import Refusal, converted
from limo_ray.serve.rules import GateConfig
from limo_ray.serve.usage import Meter

JSON = "application/json"


def parse(body: bytes, kind: str = JSON, depth: int = 64) -> dict[str, Any]:
    return bodies.parse(body, kind, depth)


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
    with pytest.raises(Refusal) as caught:
        parse(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
def test_another_content_type_is_a_400(kind: str) -> None:
    with pytest.raises(Refusal, match=r"Content-Type|UTF-8") as caught:
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
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_400(body: bytes) -> None:
    try:
        parse(body)
    except Refusal as refusal:
        assert refusal.status == 400


LIMITS = GateConfig(max_tokens=100, max_n=4, max_messages=3, reserve_tokens=50)


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
    with pytest.raises(Refusal) as caught:
        bodies.check(request_, LIMITS)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "request_",
    [
        {}, {"max_tokens": 100, "n": 4}, {"max_tokens": None, "n": None}, {"max_tokens": -1},
        {"prompt": [1] * 500}, {"prompt": []}, {"prompt": [[1, 2], [3]], "n": 2}, {"messages": "x"},
    ],
)  # fmt: skip
def test_within_the_bounds_goes_on(request_: dict[str, Any]) -> None:
    bodies.check(request_, LIMITS)


def test_what_a_request_may_use() -> None:
    def most(**request: Any) -> tuple[int, int]:
        return bodies.tokens_at_most(request, 400, LIMITS)

    assert most() == (100, 50)
    assert most(max_tokens=7) == (100, 7)
    assert most(max_tokens=70, max_completion_tokens=9, n=3) == (100, 27)
    assert most(max_tokens=5, prompt=["a", "b"], n=2) == (100, 20)
    assert most(max_tokens=-4) == (100, 50)


def read(*pieces: bytes, limit: int = 10, declared: bytes | None = None, end: bool = True) -> bytes:
    messages = [
        {"type": "http.request", "body": piece, "more_body": not end or i < len(pieces) - 1}
        for i, piece in enumerate(pieces)
    ]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.sleep(30)
        return messages.pop(0)

    return asyncio.run(bodies.read(receive, limit, 0.05, declared))


def test_pieces_make_a_body() -> None:
    assert read(b"ab", b"", b"cd") == b"abcd"
    assert read(b"x" * 10) == b"x" * 10


@pytest.mark.parametrize(
    ("pieces", "declared"),
    [
        ([b"x" * 11], None),
        ([b"x" * 6, b"x" * 6], None),
        ([b"x" * 11], b"3"),
        ([], b"11"),
        ([], b"9" * 40),
    ],
)
def test_a_large_body_is_a_413_whatever_it_declares(
    pieces: list[bytes], declared: bytes | None
) -> None:
    with pytest.raises(Refusal) as caught:
        read(*pieces, declared=declared)
    assert caught.value.status == 413


def test_a_slow_body_is_a_408() -> None:
    with pytest.raises(Refusal) as caught:
        read(b"x", end=False)
    assert caught.value.status == 408


# ---- answers


STREAM = (
    b'data: {"choices":[{"delta":{"content":"\\"usage\\": {\\"prompt_tokens\\": 9}"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"\\ndata: {"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"details":{"a":1}}}\n\n'
    b"data: [DONE]\n\n"
)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_a_stream_is_read_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    meter = Meter()
    ends = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(ends):
        meter.feed(STREAM[begin:end])
    assert meter.events == 3
    assert meter.usage() == (3, 2)


def test_the_usage_of_a_long_answer_is_found_without_keeping_it() -> None:
    meter = Meter()
    for _ in range(1000):
        meter.feed(b"x" * 1000)
    meter.feed(b'"usage": {"prompt_tokens": 1, "completion_tokens": 2}}')
    assert meter.usage() == (1, 2)
    assert sum(map(len, meter._pieces)) < 80_000


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{}", b'{"usage": null}', b'{"usage": {"prompt_tokens": "3"}}', b'{"usage": {',
        b'{"usage": {"prompt_tokens": -3}}', json.dumps({"text": '"usage": {"x": 1}'}).encode(),
    ],
)  # fmt: skip
def test_no_usage_is_none(answer: bytes) -> None:
    meter = Meter()
    meter.feed(answer)
    assert meter.usage() is None or meter.usage() == (0, 0)


# ---- errors of the application


@pytest.mark.parametrize(
    ("status", "body", "expected", "told"),
    [
        (404, b'{"detail":"Not Found"}', 404, "no such path: GET /v1/x"),
        (404, b'{"detail":"the model x does not exist"}', 404, "the model x does not exist"),
        (405, b'{"detail":"Method Not Allowed"}', 405, "/v1/x does not take GET"),
        (400, b'{"object":"error","message":"too long","code":400}', 400, "too long"),
        (500, b"Internal Server Error", 500, "internal error id-1"),
        (500, b"Traceback (most recent call last): secret", 500, "internal error id-1"),
        (500, b"[" * 100_000, 500, "internal error id-1"),
        (503, b'{"detail":"the engine is dead"}', 503, "the engine is dead"),
        (403, b"\xff\xff", 403, "refused with 403"),
    ],
)
def test_an_error_of_the_app_in_openais_format(
    status: int, body: bytes, expected: int, told: str
) -> None:
    got, text = converted(status, body, "GET", "/v1/x", "id-1")
    error = json.loads(text)["error"]
    assert (got, error["message"]) == (expected, told)
    assert set(error) == {"message", "type", "param", "code"}


def test_an_error_in_the_format_stays_as_it_is() -> None:
    body = b'{"error": {"message": "m", "type": "t", "param": null, "code": 7}}'
    assert converted(422, body, "GET", "/", "i") == (422, body)


def test_a_validation_error_names_the_field_without_its_value() -> None:
    detail = [
        {"loc": ["body", "messages", 0, "role"], "msg": "Field required", "input": "secret"},
        {"loc": ["body", "n"], "msg": "Input should be less", "ctx": {"x": "secret"}},
        "odd",
    ]
    status, body = converted(422, json.dumps({"detail": detail}).encode(), "POST", "/", "i")
    error = json.loads(body)["error"]
    assert (status, error["param"]) == (400, "messages.0.role")
    assert error["message"] == "messages.0.role: Field required; n: Input should be less"
