"""Questions about problems and chains, asked as attempts at problems of the domain "reply".

Whatever samples attempts samples replies: engines, sampler, stop rule, log. A question that was
asked once under the same sampling is not asked again, in whatever run.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from limo_ray import verify
from limo_ray.attempts.log import AttemptLog
from limo_ray.core.records import DROP_REASON, Attempt, Problem, Verdict, problem_id, sampled_table
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import Sampled
from limo_ray.engines.base import EngineConfig, identity
from limo_ray.sampling.passes import Pass, check_engines, resolve
from limo_ray.sampling.progress import Progress
from limo_ray.sampling.ray_stage import sample, start_coordinator
from limo_ray.sampling.reverify import reverify
from limo_ray.sampling.spending import Spending, logged_dollars, spending
from limo_ray.sampling.stages import Stage, sampling_fingerprint
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store


@dataclass(kw_only=True, slots=True)
class Question:
    """What is asked once: about a problem, a chain, a pair of problem and item, or a label."""

    annotation: str
    text: str
    spec: str
    about: dict[str, Any]
    """The identifying columns of ANNOTATIONS."""

    @property
    def id(self) -> str:
        """That of the question as a problem of its own."""
        return problem_id(self.text)


def ask(
    config: CurateConfig, questions: list[Question], sampled: Sampled, run: Store, store: Store,
    device: str,
) -> tuple[dict[tuple[str, str], Attempt], dict[str, float]]:  # fmt: skip
    """Asks each question until a reply can be parsed, or as often as its annotation says.

    Args:
        sampled: its attempts count towards the spend cap as well.

    Returns:
        By annotation and the question's id, the first attempt that could be parsed, or else the
        first; and what the attempts in the logs cost, by fingerprint.
    """
    passes = _passes(config, questions, device)
    check_engines(passes, device)
    _write_questions(run, questions)
    for pass_ in passes:
        costs = spending(_used([*sampled.passes, *passes]), store, config.sampler.spend_cap)
        _ask(pass_, questions, costs, run, store, config)
    return _replies(passes, questions, store), logged_dollars(_used(passes), store)


def _used(passes: list[Pass]) -> list[tuple[EngineConfig, Stage]]:
    return [(pass_.engine, stage) for pass_ in passes for stage in pass_.stages]


def _passes(config: CurateConfig, questions: list[Question], device: str) -> list[Pass]:
    """One for each engine that is asked something, with a stage for each annotation."""
    ids: dict[str, list[str]] = {}
    for question in questions:
        ids.setdefault(question.annotation, []).append(question.id)
    stages: list[tuple[str, Stage]] = []
    for each in config.annotate:
        engine = resolve(config.engines[each.engine], device)
        if each.name in ids:
            fingerprint = sampling_fingerprint(
                identity(engine), "", engine.dtype, engine.max_model_len, each.sampling
            )
            rule = StopRule(budget=each.attempts, keep_min=1, keep_max=each.attempts)
            only = frozenset(ids[each.name])
            stage = Stage(
                name=each.name, rule=rule, sampling=each.sampling, fingerprint=fingerprint,
                gate=False, only=only,
            )  # fmt: skip
            stages.append((each.engine, stage))
    stages.sort(key=lambda pair: pair[0])
    return [
        Pass(
            engine_name=name, engine=resolve(config.engines[name], device),
            stages=[stage for _, stage in several],
        )
        for name, several in itertools.groupby(stages, key=lambda pair: pair[0])
    ]  # fmt: skip


def _write_questions(run: Store, questions: list[Question]) -> None:
    """The questions as live rows of a pool: a changed spec verifies the logged replies again."""
    table = _table(questions)
    for name, kind in DROP_REASON:
        table = table.append_column(name, pa.nulls(len(table), kind))
    run.delete("questions")
    run.write_table("questions/part-000000.parquet", table)


def _table(questions: Iterable[Question]) -> pa.Table:
    """Questions as problems (SAMPLED), each once."""
    problems = {
        question.id: Problem(
            id=question.id, question=question.text, answer=question.spec,
            source=question.annotation, domain="reply",
        )
        for question in questions
    }  # fmt: skip
    return sampled_table(problems.values())


def _ask(
    pass_: Pass, questions: list[Question], costs: Spending, run: Store, store: Store,
    config: CurateConfig,
) -> None:  # fmt: skip
    """Runs one engine until each of its questions has a reply, or as many as it may have."""
    for fingerprint in {stage.fingerprint for stage in pass_.stages}:
        attempt_log = AttemptLog(store, fingerprint)
        attempt_log.compact()
        reverify(run.within("questions"), attempt_log, config.sampler.judge)
    names = {stage.name for stage in pass_.stages}
    asked = _table(question for question in questions if question.annotation in names)
    coordinator = start_coordinator(costs.before)
    data = sample(
        ray.data.from_arrow(asked), pass_.engine, pass_.stages, store, system="",
        coordinator=coordinator, config=config.sampler, total=len(asked),
    )  # fmt: skip
    data.set_name("annotation")
    with Progress(coordinator, pass_.stages, len(asked), spending=costs) as progress:
        progress.run(data)


def _replies(
    passes: list[Pass], questions: list[Question], store: Store
) -> dict[tuple[str, str], Attempt]:
    found: dict[tuple[str, str], Attempt] = {}
    specs = {question.id: question.spec for question in questions}
    for stage in (stage for pass_ in passes for stage in pass_.stages):
        attempts = AttemptLog(store, stage.fingerprint).attempts(sorted(stage.only))
        fitting = (
            attempt for attempt in attempts
            if attempt.index < stage.rule.budget
            and attempt.judge == verify.verdict_key(specs[attempt.problem_id], "reply")
        )  # fmt: skip
        for attempt in sorted(fitting, key=lambda a: (a.verdict != Verdict.CORRECT, a.index)):
            found.setdefault((stage.name, attempt.problem_id), attempt)
    return found
