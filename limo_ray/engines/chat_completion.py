"""A chat completion as OpenAI-compatible servers reply it, read into a `Completion`. Pure."""

from typing import Any

from limo_ray.engines.base import Completion

UNFINISHED = ("abort", "cut", "error")  # the server gave the completion up: no attempt
MOST_TOKENS = 2**31 - 1  # of the attempt log's columns


def read_completion(reply: Any) -> Completion:
    """A chat completion; thinking that the server took out is put back where it was.

    ValueError for a reply that is none, or that the server did not finish.
    """
    try:
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        message = choice["message"]
        text = message.get("content")
        thought = message.get("reasoning") or message.get("reasoning_content")
        reason = choice.get("finish_reason") or "stop"
        prompt_tokens, completion_tokens = (
            usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("not a chat completion") from error
    if not all(isinstance(value, str | None) for value in (text, thought, reason)):
        raise ValueError("not a chat completion of text")
    for count in (prompt_tokens, completion_tokens):
        if not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
            raise ValueError(f"usage of {count!r} tokens")
    if reason in UNFINISHED:
        raise ValueError(f"the server ended the completion: {reason}")
    if thought:
        # no closing tag where thinking ran into the limit
        text = f"<think>\n{thought}\n</think>\n\n{text}" if text else f"<think>\n{thought}"
    return Completion(
        text=encodable(text or ""),
        finish_reason={"repetition": "loop"}.get(reason, reason),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def encodable(text: str) -> str:
    """The text with `?` for lone surrogates, which no log or request can hold."""
    return text.encode("utf-8", "replace").decode()
