"""Request bodies: read within bounds, parsed into JSON that nothing behind the gate chokes on."""

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

from limo_ray.serve.errors import Refusal
from limo_ray.serve.rules import GateConfig

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # half a character, as JSON may spell it
LARGEST = 2**63 - 1  # of an integer: schemas take larger ones, what is behind them does not


class Gone(Exception):
    """The client hung up before its request was whole."""


async def read(receive: Receive, limit: int, timeout: float, declared: bytes | None) -> bytes:
    """The whole body, however it comes in pieces.

    Args:
        receive: ASGI's.
        limit: bytes, counted as they come: `declared` may be missing or wrong.
        timeout: seconds for all of it.
        declared: the Content-Length header.

    Raises:
        Refusal: 413 too large, 408 too slow.
        Gone: the client hung up.
    """
    if (
        declared is not None
        and declared.isdigit()
        and (len(declared) > 15 or int(declared) > limit)
    ):
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                piece = message.get("body", b"")
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                if piece:  # a million empty pieces need no memory
                    pieces.append(piece)
                if not message.get("more_body", False):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except TimeoutError:
        raise Refusal(
            408,
            f"the request's body did not arrive within {timeout:g} s",
            reason="slow",
            code="request_timeout",
            headers=(("connection", "close"),),
        ) from None


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        f"the request's body is larger than {limit} bytes",
        reason="size",
        code="request_too_large",
        headers=(("connection", "close"),),
    )


def replay(body: bytes, then: Receive) -> Receive:
    """ASGI's receive for a body that was read already; `then` is what follows it."""
    pending = True

    async def receive() -> Message:
        nonlocal pending
        if not pending:
            return await then()
        pending = False
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def hung_up(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def wrong(message: str, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """A 400."""
    return Refusal(400, message, reason="body", code=code, param=param)


def parse(body: bytes, content_type: str, max_depth: int) -> dict[str, Any]:
    """The JSON object in a body.

    Refuses what the JSON standard leaves open and what breaks tokenizers, templates and engines
    later: numbers that are not finite or over 64 bits, half characters, deep nesting.

    Raises:
        Refusal: 400.
    """
    kind, _, parameters = content_type.lower().partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]*)", parameters)
    if kind.strip() != "application/json":
        raise wrong("the header Content-Type must be application/json", code="bad_content_type")
    if charset and charset[1] not in ("utf-8", "utf8"):
        raise wrong("JSON must be in UTF-8", code="bad_content_type")
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_constant)
    except UnicodeDecodeError:
        raise wrong("the body is not valid UTF-8", code="invalid_json") from None
    except RecursionError:
        raise wrong("the body is nested too deeply", code="invalid_json") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise wrong(
            f"the body is not valid JSON: {error.msg}, {place}", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise wrong("the body must be a JSON object", code="invalid_json")
    _walk(value, max_depth, bool(SURROGATE.search(body)))
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > LARGEST:
        raise wrong("the body has an integer over 64 bits", code="invalid_json")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise wrong("the body has a number too large for a float", code="invalid_json")
    return value


def _constant(name: str) -> float:
    raise wrong(f"the body has {name}, which is not JSON", code="invalid_json")


def _walk(value: Any, max_depth: int, strings: bool) -> None:
    """Checks depth, and where asked that every string can be encoded. Without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > max_depth:
            raise wrong(f"the body is nested deeper than {max_depth}", code="invalid_json")
        below: list[Any] = []
        for item in level:
            children = [*item, *item.values()] if isinstance(item, dict) else item
            for child in children:
                if isinstance(child, dict | list):
                    below.append(child)
                elif strings and isinstance(child, str):
                    try:
                        child.encode()
                    except UnicodeEncodeError:
                        raise wrong(
                            "the body has half a surrogate pair", code="invalid_json"
                        ) from None
        level = below


def check(request: dict[str, Any], bounds: GateConfig) -> None:
    """Refuses what asks for more than the gate's bounds. Fields of other kinds are the app's.

    A count must be an integer: schemas take "99999" and 99999.0 for one, past a bound that is
    looked at here.

    Raises:
        Refusal: 400, with the field.
    """
    for field, most in (
        ("max_tokens", bounds.max_tokens),
        ("max_completion_tokens", bounds.max_tokens),
        ("min_tokens", bounds.max_tokens),
        ("n", bounds.max_n),
        ("best_of", bounds.max_n),
    ):
        value = request.get(field)
        if value is None:
            continue
        if type(value) is not int:
            raise wrong(f"{field} must be an integer", field)
        if value > most:
            raise wrong(f"{field}: {value} is above this server's bound of {most}", field)
    messages = request.get("messages")
    if isinstance(messages, list) and len(messages) > bounds.max_messages:
        raise wrong(
            f"messages: {len(messages)} are above this server's bound of {bounds.max_messages}",
            "messages",
        )
    choices = prompts(request) * copies(request)
    if choices > bounds.max_n:
        raise wrong(
            f"prompt: {choices} completions (prompts times n) are above this server's bound of "
            f"{bounds.max_n}",
            "prompt",
        )
    for field in ("stop", "stop_token_ids", "bad_words"):
        value = request.get(field)
        if isinstance(value, list) and len(value) > 64:
            raise wrong(f"{field}: {len(value)} are above this server's bound of 64", field)


def prompts(request: dict[str, Any]) -> int:
    """How many prompts a completion request has: a list of texts or of lists of token ids."""
    prompt = request.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1


def copies(request: dict[str, Any]) -> int:
    """How many completions of each prompt the engine makes."""
    return max(1, *(v for f in ("n", "best_of") if type(v := request.get(f)) is int), 1)


def tokens_at_most(request: dict[str, Any], size: int, bounds: GateConfig) -> tuple[int, int]:
    """What a request may use: (prompt tokens, completion tokens), before the engine knows.

    A token is taken for four bytes of the body; without a limit of its own a completion is taken
    for `reserve_tokens`.
    """
    limits = [
        value
        for field in ("max_tokens", "max_completion_tokens")
        if type(value := request.get(field)) is int and value > 0
    ]
    most = min(limits) if limits else bounds.reserve_tokens
    return size // 4, most * prompts(request) * copies(request)
