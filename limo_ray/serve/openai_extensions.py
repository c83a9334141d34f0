"""A client's request, made into one that vLLM's OpenAI layer takes. Pure.

Beside OpenAI's fields a request may have these (in the `openai` client: `extra_body`):

    min_thinking_tokens   the least thinking, in tokens: an earlier end becomes a "Wait"
    max_thinking_tokens   the most: then thinking is closed and the answer begins; 0 for no thinking
    waits                 how many ends of thinking become a "Wait"

What is left out or null is the server's default (budget, in its config); negative values are
refused.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from limo_ray.serve.config import ServeConfig
from limo_ray.serve.errors import invalid

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
class ReplicaRequest:
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
        ApiError: 400, naming the field.
    """
    out = dict(body)
    for name in WITHHELD:
        if out.pop(name, None) is not None:
            raise invalid(f"{name} is not offered here", name)
    values = {name: _count(name, out.pop(name, None)) for name in FIELDS}
    budget = config.budget
    least = _or(values["min_thinking_tokens"], budget.min_thinking_tokens)
    most = _or(values["max_thinking_tokens"], budget.max_thinking_tokens)
    waits = _or(values["waits"], budget.waits)
    if waits > budget.most_waits:
        raise invalid(f"waits: {waits} is more than {budget.most_waits}", "waits")
    if 0 <= most < least:
        if values["min_thinking_tokens"] is not None and values["max_thinking_tokens"] is not None:
            raise invalid(
                f"min_thinking_tokens: {least} is more than max_thinking_tokens ({most})",
                "min_thinking_tokens",
            )
        # one of the two is the server's default: what the request says goes before it
        if values["min_thinking_tokens"] is None:
            least = most
        else:
            most = least
    if least or most >= 0 or waits:
        if out.get("use_beam_search"):
            raise invalid("use_beam_search does not go with a thinking budget", "use_beam_search")
        out["vllm_xargs"] = {THINKING: [least, most, waits]}
    if path == CHAT and config.system and isinstance(messages := out.get("messages"), list):
        roles = [turn.get("role") for turn in messages if isinstance(turn, dict)]
        if messages and "system" not in roles and "developer" not in roles:
            out["messages"] = [{"role": "system", "content": config.system}, *messages]
    return out


def replica_request(
    path: str, body: dict[str, Any], config: ServeConfig, request_id: str
) -> ReplicaRequest:
    """A request as it is sent to a replica."""
    ready = prepared(path, body, config)
    text = _text(ready.get("messages" if path == CHAT else "prompt"))
    # the router divides by the prompt's length
    return ReplicaRequest(
        "POST", path, msgspec.json.encode(ready), text[:20_000] or " ", request_id,
        stream=bool(ready.get("stream")),
        constrained=bool(ready.get("structured_outputs") or ready.get("response_format")),
    )  # fmt: skip


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"{name}: must be an integer", name)
    if value < 0:
        raise invalid(f"{name}: {value} must not be negative", name)
    return value


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _text(value: Any) -> str:
    """The text of a prompt or of messages; token ids have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(item) for item in value)
    if isinstance(value, dict):
        return _text(value.get("content") or value.get("text"))
    return ""
