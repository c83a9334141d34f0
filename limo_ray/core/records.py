"""The nouns that flow through limo_ray, and their Arrow schemas. Plain values, no Ray, no torch.

A problem goes in, attempts are sampled and verified, an example comes out. Rows are flat: one row
per problem, attempt or input row, so that every stage can read only the columns it needs.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa


class Verdict(StrEnum):
    """What the verifier says of one completion.

    Only CORRECT and WRONG are judgements. The others say why there is none; they are counted
    apart everywhere and never shown as wrong.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer found in the completion, or no gold answer to compare with
    TRUNCATED = "truncated"  # ran into the token limit without an answer
    LOOPED = "looped"  # stopped because it repeated itself
    TIMEOUT = "timeout"  # the checker ran out of time
    ERROR = "error"  # the checker failed

    @property
    def judged(self) -> bool:
        return self in (Verdict.CORRECT, Verdict.WRONG)


@dataclass(kw_only=True, slots=True)
class Problem:
    """One problem of the pool.

    `answer` is the gold answer in the form that `limo_ray.verify.verify` takes for `domain`: plain
    text or LaTeX for "math" and "choice", JSON for the domains that need more than text ("gym",
    "countdown", "code"). `metadata` is JSON.
    """

    id: str
    question: str
    answer: str
    source: str
    domain: str = "math"
    metadata: str = "{}"


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One completion sampled for one problem, with its verdict: one row of the attempt log.

    `index` counts the attempts at a problem from 0. `judge` fingerprints gold answer, domain and
    verifier version (`verdict_key`), so that a verdict given under another gold answer or an older
    verifier is recognised and given again, without sampling the completion again.
    """

    problem_id: str
    index: int
    completion: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    verdict: Verdict
    extracted: str | None
    judge: str


PROBLEM = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("metadata", pa.string()),
    ]
)

# Where a row of the pool came from, and, for a dropped row, at which stage and why.
ORIGIN = [("file", pa.string()), ("line", pa.int64())]
DROP_REASON = [("stage", pa.string()), ("reason", pa.string()), ("evidence", pa.string())]

POOL = pa.schema([*PROBLEM, *(pa.field(*f) for f in ORIGIN), *(pa.field(*f) for f in DROP_REASON)])

# What a sampler takes and gives: the problem, where it came from, its position in the seeded order,
# and the outcome of the stages so far. Text is emptied once a problem is dropped.
SAMPLED = pa.schema(
    [
        *PROBLEM,
        *(pa.field(*f) for f in ORIGIN),
        pa.field("order", pa.int64()),
        pa.field("alive", pa.bool_()),
        pa.field("outcomes", pa.string()),
    ]
)


def sampled_table(problems: Iterable[Problem]) -> pa.Table:
    """Problems that are from no file as a sampler takes them (SAMPLED), in the order given."""
    rows = [
        {name: getattr(problem, name) for name in PROBLEM.names}
        | {"file": "", "line": 0, "order": number, "alive": True, "outcomes": "[]"}
        for number, problem in enumerate(problems)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLED)


ATTEMPT = pa.schema(
    [
        ("problem_id", pa.string()),
        ("index", pa.int32()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("verdict", pa.string()),
        ("extracted", pa.string()),
        ("judge", pa.string()),
    ]
)

# One row for every input row: `outcome` is "kept" or "dropped"; a dropped row has a stage and a
# reason, and evidence as JSON (the row that stayed, the text shared, the counts).
LEDGER = pa.schema(
    [
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("problem_id", pa.string()),
        ("outcome", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),
    ]
)

MAJORITY = "majority_gold"  # key of a problem's metadata

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def normalise(question: str) -> str:
    """The text whose hash is a problem's identity: NFKC, case and white space folded."""
    text = unicodedata.normalize("NFKC", question).casefold()
    return " ".join(text.split())


def strong_counts(outcomes: str) -> tuple[int, int] | None:
    """Correct and finished attempts of the strong stage; None where there was none.

    Args:
        outcomes: of a sampled problem: a JSON list of stage, correct, finished, decision.
    """
    for outcome in json.loads(outcomes):
        if outcome["stage"] == "strong":
            return outcome["correct"], outcome["finished"]
    return None


def majority_gold(metadata: str) -> dict[str, Any] | None:
    """The votes behind a gold answer that is the majority of attempts; None for one of a source.

    Args:
        metadata: of a problem, JSON.

    Returns:
        `votes` for the answer, and the `attempts`.
    """
    found: dict[str, Any] | None = json.loads(metadata or "{}").get(MAJORITY)
    return found


def problem_id(question: str) -> str:
    """Content hash of the normalised question: 32 hex digits (128 bits of SHA-256)."""
    return hashlib.sha256(normalise(question).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def fingerprint(value: object) -> str:
    """16 hex digits that identify a JSON-serialisable value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def attempts_table(attempts: list[Attempt]) -> pa.Table:
    """Attempts as one Arrow table with the schema ATTEMPT."""
    return pa.Table.from_pylist([asdict(a) for a in attempts], schema=ATTEMPT)


ORDER_BITS = 62


def order(seed: int, problem_id: str) -> int:
    """A problem's position in the seeded random order: 62 bits."""
    digest = hashlib.blake2b(f"{seed}:{problem_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - ORDER_BITS)
