"""Candidate chains: the logged attempts at the kept problems, of teachers and strong stage."""

from collections.abc import Iterator

from limo_ray.attempts.log import AttemptLog
from limo_ray.core.prompts import strip_think
from limo_ray.core.records import Attempt, Verdict
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.quality import score
from limo_ray.curate.records import Chain, KeptProblem
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store
from limo_ray.verify import verdict_key


def candidate_chains(
    problems: list[KeptProblem], stages: list[Stage], store: Store, config: CurateConfig
) -> list[Chain]:
    """The chains of kept problems that pass the gate, without scores.

    Args:
        stages: all that were sampled; those of teachers give chains, and the strong one if
            `reuse_strong` says so. A stage's name is the teacher's.
        store: holds their logs.
    """
    teachers = {teacher.name for teacher in config.chains.teachers}
    if config.chains.reuse_strong:
        teachers.add("strong")
    chains: list[Chain] = []
    seen: set[tuple[str, str]] = set()
    for stage in stages:
        for chain in _chains(problems, stage, store, config) if stage.decides in teachers else ():
            key = chain.problem_id, chain.solution
            if key not in seen:  # of equal texts for a problem only the first is a candidate
                seen.add(key)
                chains.append(chain)
    return chains


def score_chains(
    problems: list[KeptProblem], chains: list[Chain], config: CurateConfig
) -> list[Chain]:
    """The chains of these problems, scored among one another, with the group of their problem."""
    groups = {problem.id: problem.group(config.selection.group_by) for problem in problems}
    chains = [chain for chain in chains if chain.problem_id in groups]
    columns = score(
        [chain.solution for chain in chains], config.quality, [chain.rating for chain in chains]
    )
    for index, chain in enumerate(chains):
        chain.scores = {name: float(values[index]) for name, values in columns.items()}
        chain.group = groups[chain.problem_id]
    return chains


def _chains(
    problems: list[KeptProblem], stage: Stage, store: Store, config: CurateConfig
) -> Iterator[Chain]:
    """Those of one stage, by problem and index.

    A chain that ran into the token limit or into a loop is none, even without the gate.
    """
    keys = {p.id: verdict_key(p.answer, p.domain, config.sampler.judge) for p in problems}

    def passes(attempt: Attempt) -> bool:
        return (
            attempt.index < stage.rule.budget
            and attempt.judge == keys[attempt.problem_id]
            and (attempt.verdict == Verdict.CORRECT or not config.chains.only_correct)
            and attempt.finish_reason == "stop"
        )

    attempts = AttemptLog(store, stage.fingerprint).attempts(list(keys))
    for attempt in sorted(filter(passes, attempts), key=lambda a: (a.problem_id, a.index)):
        text = attempt.completion.strip()
        text = strip_think(text) if config.chains.think == "strip" else text
        if text:
            yield Chain(
                problem_id=attempt.problem_id,
                teacher=stage.name,
                index=attempt.index,
                solution=text,
                tokens=attempt.completion_tokens,
            )
