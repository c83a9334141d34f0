"""One verdict in three steps, by domain: extract the answer, decide it at once, or work it out.

`easy` runs in the caller's process in microseconds; `hard` may take for ever and runs where it can
be killed (`limo_ray.verify.process_pool`), or in place when `verify` is called directly.
"""

from limo_ray.core.records import Verdict
from limo_ray.verify import choice, code, countdown, gym, latex_reader, math, normalize
from limo_ray.verify.extract import final_answer

DOMAINS = ("math", "choice", "countdown", "gym", "code")

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


def extract(completion: str, domain: str = "math", *, complete: bool = True) -> str | None:
    """The answer that a completion gives, or None when it gives none.

    `complete=False` says that the completion ran into a limit: then only an explicit answer (a box,
    "the final answer is", <answer>) counts.
    """
    match domain:
        case "math" | "gym":
            return final_answer(completion, complete=complete)
        case "choice":
            return choice.extract(completion, complete=complete)
        case "countdown":
            return countdown.extract(completion, complete=complete)
        case "code":
            return code.extract(completion, complete=complete)
    raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}")


def easy(answer: str, extracted: str, domain: str) -> Verdict | None:
    """The verdict when it is decided at once, else None. ERROR for a malformed gold answer."""
    try:
        match domain:
            case "math":
                return math.easy(answer, extracted)
            case "choice":
                return choice.easy(answer, extracted)
            case "countdown":
                return countdown.verify(answer, extracted)
            case "gym":
                return gym.easy(answer, extracted)
    except FAILURES:
        return Verdict.ERROR
    return None


def hard(answer: str, extracted: str, domain: str, seconds: float = code.SECONDS) -> Verdict:
    """The verdict worked out. May hang or fill the memory: call it where it can be killed.

    `seconds` limits the run of a program (domain "code"), which ends and cleans up by itself.
    """
    try:
        match domain:
            case "math":
                return math.hard(answer, extracted)
            case "choice":
                return choice.hard(answer, extracted)
            case "gym":
                return gym.hard(answer, extracted)
            case "code":
                return code.verify(answer, extracted, seconds)
    except FAILURES:
        return Verdict.ERROR
    raise ValueError(f"no hard pairs in domain {domain!r}")


def unverifiable(answer: str, domain: str = "math") -> str | None:
    """Why a gold answer cannot be used (malformed, unsolvable, refused by its checker), or None."""
    match domain:
        case "math":
            return math.unverifiable(answer)
        case "choice":
            return choice.unverifiable(answer)
        case "countdown":
            return countdown.unverifiable(answer)
        case "gym":
            return gym.unverifiable(answer)
        case "code":
            return code.unverifiable(answer)
    return f"no such domain: {domain}"


def forget() -> None:
    """Empty every cache of this process, for measurements from a cold start."""
    caches = (math.accepted, math.parsed, normalize.standard, latex_reader.read)
    for cache in (*caches, choice.gold, code.gold, countdown.task, gym.entry):
        cache.cache_clear()


def show(answer: str, domain: str = "math") -> str:
    """A gold answer as a reader wants to see it; ValueError when it is malformed."""
    match domain:
        case "choice":
            return choice.show(answer)
        case "countdown":
            return countdown.show(answer)
        case "gym":
            return gym.show(answer)
        case "code":
            return code.show(answer)
    return answer
