"""Replies to a question about a problem or a chain (domain "reply"): CORRECT is one that fits.

The gold answer says in JSON what fits: {"one_of": [words]}, {"integers": [count, low, high]},
{"parts": separator} for two texts, {"text": true} for any line; several of these are alternatives.
A reply ends with the line `Answer: ...`. What does not fit is UNPARSED: no reply is WRONG.
"""

import json
import re

from limo_ray.core.prompts import strip_think
from limo_ray.core.records import Verdict

_LINE = re.compile(r"[*#\s]*answer[*\s]*:[*\s]*(\S[^\n]*)", re.IGNORECASE)


def extract(completion: str, *, complete: bool = True) -> str | None:
    """What the last line answers; None for another last line, or for a reply that was cut off."""
    last = strip_think(completion).strip().rpartition("\n")[2]
    found = _LINE.fullmatch(last) if complete else None
    return found[1].strip().rstrip("*").strip() or None if found else None


def parse(spec: str, answer: str) -> str | None:
    """The value that an extracted answer gives: as `spec` spells it, integers as "7 3 5 8".

    None for one that does not fit. Raises ValueError for a malformed spec.
    """
    wanted = json.loads(spec)
    if not isinstance(wanted, dict):
        raise ValueError(f"no object: {spec!r}")
    bare = answer.strip("`'\". ")
    for word in wanted.get("one_of", []):
        if bare.casefold() == word.casefold():
            return str(word)
    if "integers" in wanted:
        count, low, high = wanted["integers"]
        words = re.split(r"\s*,\s*|\s+", bare)
        if len(words) == count and all(re.fullmatch(r"[0-9]{1,6}", word) for word in words):
            numbers = [int(word) for word in words]
            return (
                " ".join(map(str, numbers)) if low <= min(numbers) <= max(numbers) <= high else None
            )
    if separator := wanted.get("parts"):
        parts = [part.strip() for part in answer.split(separator)]
        if len(parts) == 2 and all(parts):
            return f" {separator} ".join(parts)
    return answer if wanted.get("text") else None


def easy(spec: str, answer: str) -> Verdict:
    """Every reply is decided at once."""
    return Verdict.UNPARSED if parse(spec, answer) is None else Verdict.CORRECT


def unverifiable(spec: str) -> str | None:
    """Why a spec cannot be used, or None."""
    try:
        parse(spec, "")
    except (ValueError, TypeError, AttributeError) as error:
        return f"no description of a reply: {error}"
    return None
