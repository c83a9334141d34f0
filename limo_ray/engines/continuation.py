"""Continuing a completion that was cut off, so that it ends as an uninterrupted one. Pure.

An engine that goes on after a prefix looks for loops and stop strings only in the tokens that it
samples itself: `join` looks across the seam. `request_seed` gives the rest random numbers of its
own.
"""

import hashlib
from collections.abc import Callable

from limo_ray.engines.base import Request


def join(
    request: Request,
    tokens: list[int],
    finish_reason: str,
    decode: Callable[[list[int]], str],
    ends_in_loop: Callable[[list[int]], bool],
) -> tuple[str, str, list[int]]:
    """A continued completion cut where an uninterrupted one would have ended.

    Args:
        tokens: ids of the whole completion, the request's prefix included.
        finish_reason: why the engine ended it.
        decode: ids to text, without special tokens.
        ends_in_loop: whether ids end in a loop; asked only if the request's sampling wants that.

    Returns:
        Text, finish reason and ids. A stop string cuts the text only, as vLLM does.
    """
    sampling, prefix = request.sampling, len(request.prefix)
    if sampling.loop_count:
        longest = sampling.loop_pattern * sampling.loop_count  # a later loop is all the engine's
        for end in range(prefix + 1, min(prefix + longest, len(tokens)) + 1):
            if ends_in_loop(tokens[:end]):
                tokens, finish_reason = tokens[:end], "loop"
                break
    text = decode(tokens)
    found = [position for stop in sampling.stop if (position := text.find(stop)) >= 0]
    if found:
        text, finish_reason = text[: min(found)], "stop"
    return text, finish_reason, tokens


def request_seed(seed: int, request: Request) -> int:
    """31 bits that belong to one attempt alone, and to the token from which it goes on.

    The random numbers that made the prefix must not come again after it: the rest would depend on
    the prefix by more than its text.
    """
    text = f"{seed}:{request.problem.id}:{request.index}"
    if request.prefix:
        text += f":{len(request.prefix)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
