"""Request bodies: read within bounds, parsed into JSON that nothing behind this chokes on."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.types import Receive

from limo_ray.serve.config import GateConfig
from limo_ray.serve.errors import ApiError, invalid

Headers = Mapping[bytes, bytes]

OFF_LOOP_BYTES = 256 * 1024  # larger bodies are parsed in a thread
MAX_INTEGER = 2**63 - 1  # schemas take larger ones, what is behind them does not
CLOSE = {"connection": "close"}


async def read(headers: Headers, receive: Receive, config: GateConfig) -> bytes:
    """The whole body, in however many messages it comes.

    Raises:
        ApiError: 413 too large (counted as it comes: Content-Length may be missing or wrong), 408
            too slow.
        starlette.requests.ClientDisconnect
    """
    limit = config.max_body_bytes
    too_large = ApiError(
        413, f"the request's body is larger than {limit} bytes", code="request_too_large",
        headers=CLOSE,
    )  # fmt: skip
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(config.body_timeout_s):
            async for piece in Request({"type": "http"}, receive).stream():
                body += piece
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise ApiError(
            408, f"the request's body did not arrive within {config.body_timeout_s:g} s",
            code="request_timeout", headers=CLOSE,
        ) from None  # fmt: skip
    return bytes(body)


async def parse(headers: Headers, body: bytes, config: GateConfig) -> dict[str, Any]:
    """The JSON object in a body, within the config's bounds. A large one is parsed in a thread.

    Raises:
        ApiError: 400.
    """
    kind, _, parameters = headers.get(b"content-type", b"").lower().partition(b";")
    if kind.strip() != b"application/json":
        raise invalid("the header Content-Type must be application/json", code="bad_content_type")
    if b"charset" in parameters and b"utf-8" not in parameters and b"utf8" not in parameters:
        raise invalid("JSON must be in UTF-8", code="bad_content_type")
    if len(body) > OFF_LOOP_BYTES:
        request = await asyncio.to_thread(decode, body, config.max_depth)
    else:
        request = decode(body, config.max_depth)
    check_bounds(request, config)
    return request


def decode(body: bytes, max_depth: int) -> dict[str, Any]:
    """The JSON object in a body.

    Refuses what the JSON standard leaves open and what breaks tokenizers, templates and engines:
    numbers that are not finite or over 64 bits, half surrogate pairs, deep nesting.

    Raises:
        ApiError: 400.
    """
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise invalid("the body is not valid UTF-8", code="invalid_json") from None
    except RecursionError:
        raise invalid("the body is nested too deeply", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise invalid(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    level: list[Any] = [value]
    for _ in range(max_depth):
        below: list[Any] = []
        for item in level:
            for child in item.values() if isinstance(item, dict) else item:
                if isinstance(child, dict | list):
                    below.append(child)
                elif isinstance(child, int) and abs(child) > MAX_INTEGER:
                    raise invalid("the body has an integer over 64 bits", code="invalid_json")
        if not below:
            return value
        level = below
    raise invalid(f"the body is nested deeper than {max_depth}", code="invalid_json")


def check_bounds(request: dict[str, Any], config: GateConfig) -> None:
    """Refuses a request for more than the config's bounds. Fields of other kinds are vLLM's.

    A count must be an integer: vLLM takes "99999" and 99999.0 for one, past a bound.

    Raises:
        ApiError: 400, with the field.
    """

    def bound(field: str, value: int, most: int) -> None:
        if value > most:
            raise invalid(f"{field}: {value} is above this server's bound of {most}", field)

    for field in ("max_tokens", "max_completion_tokens", "min_tokens", "n", "best_of"):
        value = request.get(field)
        if value is not None and type(value) is not int:
            raise invalid(f"{field} must be an integer", field)
        bound(field, value or 0, config.max_n if field in ("n", "best_of") else config.max_tokens)
    for field, most in (
        ("messages", config.max_messages), ("stop", 64), ("stop_token_ids", 64), ("bad_words", 64),
    ):  # fmt: skip
        if isinstance(value := request.get(field), list):
            bound(field, len(value), most)
    prompts = 1  # a prompt is a text or a list of token ids
    prompt = request.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        prompts = len(prompt)
    copies = max(1, request.get("n") or 1, request.get("best_of") or 1)
    bound("prompt", prompts * copies, config.max_n)
