"""How many tokens a response used, read as it passes by, streamed or not, without holding it up."""

import json
import re
from collections import deque
from typing import Any

KEPT = 64 * 1024  # bytes of a response's end in which its usage is looked for

# A model cannot write this into its answer: inside a JSON string the quotes are escaped.
USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
EVENT = b"\ndata: {"


class Meter:
    """Sees the pieces of one response; afterwards `usage()` tells its tokens."""

    __slots__ = ("_held", "_pieces", "_tail", "events")

    def __init__(self) -> None:
        self.events = 0  # of a stream: each is about one token
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._tail = b"\n"

    def feed(self, piece: bytes) -> None:
        if not piece:
            return
        seen = self._tail + piece  # an event's beginning may lie across two pieces
        self.events += seen.count(EVENT)
        self._tail = seen[1 - len(EVENT) :]
        self._pieces.append(piece)
        self._held += len(piece)
        while self._held - len(self._pieces[0]) >= KEPT:
            self._held -= len(self._pieces.popleft())

    def usage(self) -> tuple[int, int] | None:
        """(prompt tokens, completion tokens) as the response says, or None where it does not."""
        end = b"".join(self._pieces)
        places = [match.end() for match in USAGE.finditer(end)]
        if not places:
            return None
        try:
            found, _ = json.JSONDecoder().raw_decode(end[places[-1] :].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
        return counts(found)


def counts(usage: Any) -> tuple[int, int] | None:
    """OpenAI's usage object as (prompt tokens, completion tokens)."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    if type(prompt) is not int or type(completion) is not int or prompt < 0 or completion < 0:
        return None
    return prompt, completion
