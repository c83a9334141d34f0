"""The verifier: is this completion's answer the gold one?

    verify("1/2", r"... so it is \\boxed{0.5}.")          -> Verdict.CORRECT
    with Verifier(workers=2) as v: v.verify_many([...])   -> the same, with a hard limit of time

`verify` is pure and thread-safe and has no time limit; `Verifier` decides easy pairs in process and
kills what runs over. Both give the same verdicts.
"""

from limo_ray.core.errors import VerificationError
from limo_ray.core.records import Verdict, fingerprint
from limo_ray.verify.domains import DOMAINS, easy, extract, hard, show, unverifiable
from limo_ray.verify.health import Health, final_verdict
from limo_ray.verify.judge import JudgeConfig
from limo_ray.verify.process_pool import Verification, Verifier
from limo_ray.verify.program_runner import CodeConfig

# Part of every verdict's key: raise it whenever a verdict or an extracted answer can change.
VERSION = "3"

__all__ = [
    "DOMAINS",
    "VERSION",
    "CodeConfig",
    "Health",
    "JudgeConfig",
    "Verdict",
    "Verification",
    "VerificationError",
    "Verifier",
    "extract",
    "final_verdict",
    "show",
    "unverifiable",
    "verdict_key",
    "verify",
]


def verdict_key(answer: str, domain: str, judge: JudgeConfig | None = None) -> str:
    """What a verdict depends on besides the completion: gold answer, domain, verifier, judge."""
    parts = [VERSION, domain, answer]
    if judge and judge.rules_on(answer, domain):
        parts.append(judge.model)
    return fingerprint(parts)


def verify(answer: str, completion: str, domain: str = "math", *, complete: bool = True) -> Verdict:
    """Judge one completion against a gold answer.

    Returns CORRECT, WRONG, UNPARSED (no answer in the completion) or ERROR (malformed gold answer,
    or a checker that failed). Pure, thread-safe, no signals, and so without a time limit.
    """
    extracted = extract(completion, domain, complete=complete)
    if extracted is None:
        return Verdict.UNPARSED
    verdict = easy(answer, extracted, domain)
    return hard(answer, extracted, domain) if verdict is None else verdict
