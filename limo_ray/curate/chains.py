"""Candidate chains: the logged attempts at the kept problems, of teachers and strong stage."""

import json
from typing import Any

from limo_ray.attempts.log import AttemptLog
from limo_ray.core.prompts import strip_think
from limo_ray.core.records import Verdict
from limo_ray.curate.config import ChainsConfig
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store
from limo_ray.verify import JudgeConfig, judge_key


def collect(
    problems: list[dict[str, Any]],
    stages: list[Stage],
    store: Store,
    config: ChainsConfig,
    judge: JudgeConfig,
) -> list[dict[str, Any]]:
    """The chains of kept problems that pass the gate.

    Args:
        problems: kept rows, with the columns of a Problem.
        stages: those whose attempts count as chains; a stage's name is the teacher's.
        store: holds their logs.
        judge: whose verdicts count.

    Returns:
        One dict per chain: problem_id, teacher, index, solution, tokens, verdict. A chain that
        ran into the token limit or into a loop is no candidate even without the gate, and of
        equal texts for a problem only the first is.
    """
    judges = {row["id"]: judge_key(row["answer"], row["domain"], judge) for row in problems}
    chains = []
    seen: set[tuple[str, str]] = set()
    for stage in stages:
        attempts = AttemptLog(store, stage.fingerprint).attempts(list(judges))
        for attempt in sorted(attempts, key=lambda a: (a.problem_id, a.index)):
            if attempt.index >= stage.rule.budget or attempt.judge != judges[attempt.problem_id]:
                continue
            if config.only_correct and attempt.verdict != Verdict.CORRECT:
                continue
            if attempt.finish_reason != "stop":
                continue
            text = attempt.completion.strip()
            text = strip_think(text) if config.think == "strip" else text
            if not text or (attempt.problem_id, text) in seen:
                continue
            seen.add((attempt.problem_id, text))
            chains.append(
                {
                    "problem_id": attempt.problem_id,
                    "teacher": stage.name,
                    "index": attempt.index,
                    "solution": text,
                    "tokens": attempt.completion_tokens,
                    "verdict": str(attempt.verdict),
                }
            )
    return chains


def group_of(problem: dict[str, Any], group_by: str) -> str:
    """A problem's group for balanced selection: source, domain, or metadata.<key>."""
    column, _, key = group_by.partition(".")
    value = json.loads(problem["metadata"] or "{}").get(key) if key else problem[column]
    return str(value)
