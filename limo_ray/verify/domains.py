"""One verdict in three steps, by domain: extract the answer, decide it at once, or work it out.

`easy` runs in the caller's process in microseconds; `hard` may take for ever and runs where it can
be killed (`limo_ray.verify.process_pool`), or in place when `verify` is called directly.
"""

from collections.abc import Callable
from typing import NamedTuple

from limo_ray.core.records import Verdict
from limo_ray.verify import choice, code, countdown, gym, latex_reader, math, normalize, reply
from limo_ray.verify.extract import final_answer

# What a checker can raise on a malformed gold answer or an impossible input: never "wrong".
FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError and NotImplementedError too
    TypeError,
    ValueError,
)


class Domain(NamedTuple):
    """The steps of a domain; every pair of countdown is easy, none of code is."""

    extract: Callable[..., str | None]
    easy: Callable[[str, str], Verdict | None]
    hard: Callable[..., Verdict]
    unverifiable: Callable[[str], str | None]
    show: Callable[[str], str]


DOMAINS = {
    "math": Domain(final_answer, math.easy, math.hard, math.unverifiable, str),
    "choice": Domain(choice.extract, choice.easy, choice.hard, choice.unverifiable, choice.show),
    "countdown": Domain(
        countdown.extract, countdown.verify, countdown.verify, countdown.unverifiable,
        countdown.show,
    ),
    "gym": Domain(final_answer, gym.easy, gym.hard, gym.unverifiable, gym.show),
    "code": Domain(code.extract, lambda *_: None, code.verify, code.unverifiable, code.show),
    "reply": Domain(reply.extract, reply.easy, reply.easy, reply.unverifiable, str),
}  # fmt: skip


def extract(completion: str, domain: str = "math", *, complete: bool = True) -> str | None:
    """The answer that a completion gives, or None when it gives none.

    `complete=False` says that the completion ran into a limit: then only an explicit answer (a box,
    "the final answer is", <answer>) counts.

    Raises:
        ValueError: no such domain.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}")
    return DOMAINS[domain].extract(completion, complete=complete)


def easy(answer: str, extracted: str, domain: str) -> Verdict | None:
    """The verdict when it is decided at once, else None. ERROR for a malformed gold answer, and
    UNPARSED where there is none to compare with."""
    if not answer:
        return Verdict.UNPARSED
    try:
        return DOMAINS[domain].easy(answer, extracted)
    except FAILURES:
        return Verdict.ERROR


def hard(answer: str, extracted: str, domain: str, seconds: float = code.SECONDS) -> Verdict:
    """The verdict worked out. May hang or fill the memory: call it where it can be killed.

    `seconds` limits the run of a program (domain "code"), which ends and cleans up by itself.
    """
    try:
        if domain == "code":
            return code.verify(answer, extracted, seconds)
        return DOMAINS[domain].hard(answer, extracted)
    except FAILURES:
        return Verdict.ERROR


def unverifiable(answer: str, domain: str = "math") -> str | None:
    """Why a gold answer cannot be used (malformed, unsolvable, refused by its checker), or None."""
    if domain not in DOMAINS:
        return f"no such domain: {domain}"
    return DOMAINS[domain].unverifiable(answer)


def forget() -> None:
    """Empty every cache of this process, for measurements from a cold start."""
    caches = (math.accepted, math.parsed, normalize.standard, latex_reader.read)
    for cache in (*caches, choice.gold, code.gold, countdown.task, gym.entry):
        cache.cache_clear()


def show(answer: str, domain: str = "math") -> str:
    """A gold answer as a reader wants to see it; ValueError when it is malformed."""
    return DOMAINS[domain].show(answer) if domain in DOMAINS else answer
