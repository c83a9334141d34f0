"""What clients ask for, made into what vLLM's OpenAI layer takes. Pure.

Beside OpenAI's fields a request may have these (in the `openai` client: `extra_body`):

    min_thinking_tokens   the least thinking, in tokens: an earlier end becomes a "Wait"
    max_thinking_tokens   the most: then thinking is closed and the answer begins; 0 for no thinking
    waits                 how many ends of thinking become a "Wait"

What is left out or null is the server's default (budget, in its config); negative values are
refused.
"""

import json
from dataclasses import dataclass
from typing import Any

from limo_ray.serve.config import ServeConfig
from limo_ray.serve.errors import Refusal

THINKING = "limo_ray_thinking"  # of sampling parameters' extra_args: [least, most or -1, waits]
FIELDS = ("min_thinking_tokens", "max_thinking_tokens", "waits")
# What only works between servers of one's own, or reaches into the engine.
WITHHELD = (
    "vllm_xargs", "kv_transfer_params", "ec_transfer_params", "prompt_embeds",
    "mm_processor_kwargs", "media_io_kwargs", "routed_experts_prompt_start",
    "thinking_token_budget",
)  # fmt: skip
CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class Call:
    """One request on its way to a replica. Routers by prefix read `prompt`."""

    method: str
    path: str
    body: bytes
    prompt: str
    request_id: str = ""
    stream: bool = False
    constrained: bool = False  # to a schema or grammar


def prepared(path: str, body: dict[str, Any], config: ServeConfig) -> dict[str, Any]:
    """The body for vLLM: with the system prompt and the budget where vLLM looks for it.

    Raises:
        Refusal: 400, naming the field.
    """
    out = dict(body)
    for name in WITHHELD:
        if out.pop(name, None) is not None:
            raise _wrong(name, f"{name} is not offered here")
    values = {name: _count(name, out.pop(name, None)) for name in FIELDS}
    budget = config.budget
    least = _or(values["min_thinking_tokens"], budget.min_thinking_tokens)
    most = _or(values["max_thinking_tokens"], budget.max_thinking_tokens)
    waits = _or(values["waits"], budget.waits)
    if waits > budget.most_waits:
        raise _wrong("waits", f"waits: {waits} is more than {budget.most_waits}")
    if 0 <= most < least:
        if values["min_thinking_tokens"] is not None and values["max_thinking_tokens"] is not None:
            raise _wrong(
                "min_thinking_tokens",
                f"min_thinking_tokens: {least} is more than max_thinking_tokens ({most})",
            )
        # one of the two is the server's default: what the request says goes before it
        if values["min_thinking_tokens"] is None:
            least = most
        else:
            most = least
    if least or most >= 0 or waits:
        if out.get("use_beam_search"):
            raise _wrong("use_beam_search", "use_beam_search does not go with a thinking budget")
        out["vllm_xargs"] = {THINKING: [least, most, waits]}
    if path == CHAT and config.system and isinstance(messages := out.get("messages"), list):
        roles = {turn.get("role") for turn in messages if isinstance(turn, dict)}
        if messages and not roles & {"system", "developer"}:
            out["messages"] = [{"role": "system", "content": config.system}, *messages]
    return out


def call(path: str, body: dict[str, Any], config: ServeConfig, request_id: str) -> Call:
    """A request's body, ready to be sent to a replica."""
    ready = prepared(path, body, config)
    text = _text(ready.get("messages" if path == CHAT else "prompt"))
    # the router divides by the prompt's length
    return Call(
        "POST", path, json.dumps(ready).encode(), text[:20_000] or " ", request_id,
        stream=bool(ready.get("stream")),
        constrained=bool(ready.get("structured_outputs") or ready.get("response_format")),
    )  # fmt: skip


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, f"{name}: must be an integer")
    if value < 0:
        raise _wrong(name, f"{name}: {value} must not be negative")
    return value


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _text(value: Any) -> str:
    """The words of a prompt or of messages, as far as they are words."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(item) for item in value)
    if isinstance(value, dict):
        return _text(value.get("content") or value.get("text"))
    return ""


def _wrong(param: str, message: str) -> Refusal:
    return Refusal(400, message, reason="body", code="invalid_value", param=param)
