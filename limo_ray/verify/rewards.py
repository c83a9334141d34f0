"""The verifier as the reward function of RL trainers: 1 for a correct completion, 0 for others.

    verl   custom_reward_function.path=<this file> custom_reward_function.name=compute_score
    TRL    GRPOTrainer(reward_funcs=reward_correct, ...)

The rows that both expect are written by `limo_ray.runs.rl_export`. Where there is no judgement,
because the checker failed or ran out of time, TRL is told None, which it leaves out; verl has no
such value and gets 0.
"""

import atexit
from functools import cache
from typing import Any

from limo_ray.core.records import Verdict
from limo_ray.verify.process_pool import Verifier

_FAILED = (Verdict.ERROR, Verdict.TIMEOUT)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **_: Any,
) -> float:
    """verl's signature: the score of one completion, 0.0 or 1.0.

    Args:
        data_source: not looked at.
        solution_str: the completion.
        ground_truth: the gold answer as limo_ray keeps it (JSON for countdown, gym and code).
        extra_info: its `domain` says how the answer is verified; math without one.
    """
    domain = str((extra_info or {}).get("domain") or "math")
    verdict = _verifier().check(ground_truth, solution_str, domain).verdict
    return float(verdict is Verdict.CORRECT)


def reward_correct(
    prompts: list[Any], completions: list[Any], answer: list[str], **columns: Any
) -> list[float | None]:
    """TRL's signature: a score for each completion, None where there is no judgement.

    Args:
        prompts: not looked at.
        completions: texts, or chats whose last message is the completion.
        answer: column of the data set with the gold answers.
        columns: its other columns; `domain` says how an answer is verified, math without one.
    """
    domains = columns.get("domain") or ["math"] * len(completions)
    texts = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
    triples = zip(answer, texts, domains, strict=True)
    verdicts = _verifier().verify_many(triples)
    return [None if each in _FAILED else float(each is Verdict.CORRECT) for each in verdicts]


@cache
def _verifier() -> Verifier:
    verifier = Verifier(workers=1)
    atexit.register(verifier.close)
    return verifier
