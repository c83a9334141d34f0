"""Attempts at benchmark items: sampled into the attempt log, verified, read back.

    sample_missing(model, wanted, store, config)
    attempts = read_attempts(wanted[0], store, judge)

What the log holds is never sampled again, so that the same command resumes after any crash. Where a
gold answer or the verifier changed since, logged completions are verified again.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import ray

from limo_ray.attempts.log import AttemptLog
from limo_ray.core.records import Attempt, Problem, sampled_table
from limo_ray.evaluate.config import EvaluateConfig, ProtocolConfig
from limo_ray.evaluate.items import BenchmarkItems
from limo_ray.evaluate.models import EvaluatedModel
from limo_ray.evaluate.progress import EvaluationProgress
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.ray_stage import sample, start_coordinator
from limo_ray.sampling.reverify import Answers, reverify_here
from limo_ray.sampling.spending import logged_dollars, spending
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store
from limo_ray.verify import Health, JudgeConfig, verdict_key

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class ModelAttempts:
    """The attempts that one model makes at one benchmark."""

    benchmark: BenchmarkItems
    protocol_name: str
    protocol: ProtocolConfig
    fingerprint: str
    """Of the attempt log that holds them."""


@dataclass(slots=True)
class SampledCounts:
    """Attempts that were sampled now and those that the log held, with their time and cost."""

    new: int
    reused: int
    seconds: float
    dollars: float
    """That all attempts in these logs cost; 0 without prices."""


def stages(wanted: list[ModelAttempts]) -> list[Stage]:
    """The passes over all items: one for each sampling and number of attempts.

    A question of two benchmarks under one sampling is attempted once, as often as either asks.
    """
    counts: dict[str, dict[str, int]] = {}  # fingerprint -> problem -> attempts
    first: dict[str, ModelAttempts] = {}
    for asked in wanted:
        first.setdefault(asked.fingerprint, asked)
        most = counts.setdefault(asked.fingerprint, {})
        for problem in asked.benchmark.problems:
            most[problem.id] = max(most.get(problem.id, 0), asked.protocol.attempts)
    found = []
    for fingerprint, most in counts.items():
        asked = first[fingerprint]
        name = asked.protocol_name
        budgets = sorted(set(most.values()))
        for n in budgets:
            found.append(
                Stage(
                    name=name if len(budgets) == 1 else f"{name}, {n} attempts",
                    rule=StopRule(budget=n, keep_min=0, keep_max=n, early=False),
                    sampling=asked.protocol.sampling, fingerprint=fingerprint, gate=False,
                    only=frozenset(problem for problem, count in most.items() if count == n),
                )
            )  # fmt: skip
    return found


def sample_missing(
    model: EvaluatedModel, wanted: list[ModelAttempts], store: Store, config: EvaluateConfig
) -> SampledCounts:
    """Samples the attempts that the log lacks, and verifies all of them.

    Raises:
        RayError: with the EngineError of an engine that does not start or keeps dying, or of a
            server that refuses or is away; with a VerificationError when too many verdicts are
            TIMEOUT or ERROR.
    """
    begun = time.time()
    passes = stages(wanted)
    logs = [AttemptLog(store, name) for name in {stage.fingerprint for stage in passes}]
    problems = [problem for asked in wanted for problem in asked.benchmark.problems]
    by_id = {problem.id: problem for problem in reversed(problems)}
    for attempt_log in logs:
        attempt_log.compact()
        reverify_stale(problems, attempt_log, config.sampler)
    total = sum(stage.rule.budget * len(stage.only) for stage in passes)
    missing = _missing(passes, by_id, store, config.sampler.judge)
    if missing:
        log.info("%s: %d of %d attempts to sample", model.label, missing, total)
        _sample(model, passes, list(by_id.values()), store, config)
        for attempt_log in logs:  # the sampler knows one gold answer of each question
            reverify_stale(problems, attempt_log, config.sampler)
    cost = sum(logged_dollars([(model.engine, stage) for stage in passes], store).values())
    return SampledCounts(missing, total - missing, time.time() - begun, cost)


def reverify_stale(
    problems: Iterable[Problem], attempt_log: AttemptLog, config: SamplerConfig
) -> None:
    """Verifies logged attempts again that have no verdict under a problem's gold answer."""
    index = attempt_log.read_index()
    if not len(index):
        return
    rounds: list[Answers] = []  # one gold answer of a question each
    for problem in {(p.id, p.answer, p.domain): p for p in problems}.values():
        if index.known(problem.id, verdict_key(problem.answer, problem.domain, config.judge)).stale:
            answers = next((answers for answers in rounds if problem.id not in answers), None)
            if answers is None:
                rounds.append(answers := {})
            answers[problem.id] = (problem.answer, problem.domain, problem.question)
    for answers in rounds:
        log.info("verifying the logged attempts at %d items again", len(answers))
        reverify_here(attempt_log, answers, config.judge, config.code)


def _missing(
    passes: list[Stage], problems: dict[str, Problem], store: Store, judge: JudgeConfig
) -> int:
    """How many attempts the log lacks."""
    missing = 0
    for stage in passes:
        index = AttemptLog(store, stage.fingerprint).read_index()
        for name in stage.only:
            key = verdict_key(problems[name].answer, problems[name].domain, judge)
            have = index.known(name, key).verdicts
            missing += sum(number not in have for number in range(stage.rule.budget))
    return missing


def _sample(
    model: EvaluatedModel, passes: list[Stage], problems: list[Problem], store: Store,
    config: EvaluateConfig,
) -> None:  # fmt: skip
    """Runs the model's engine until every item has its attempts."""
    used = [(model.engine, stage) for stage in passes]
    costs = spending(used, store, config.sampler.spend_cap)
    coordinator = start_coordinator(costs.before)
    data = sample(
        ray.data.from_arrow(sampled_table(problems)),
        model.engine, passes, store, system=model.system, coordinator=coordinator,
        config=config.sampler, total=len(problems),
    )  # fmt: skip
    data.set_name("sampling")
    with EvaluationProgress(coordinator, passes, len(problems), spending=costs) as progress:
        progress.run(data)


def read_attempts(wanted: ModelAttempts, store: Store, judge: JudgeConfig) -> list[list[Attempt]]:
    """Each item's attempts in the order of their index, with the verdict on its gold answer.

    Raises RuntimeError when the log lacks any of them.
    """
    problems = wanted.benchmark.problems
    logged = AttemptLog(store, wanted.fingerprint).attempts(sorted({p.id for p in problems}))
    known = {(a.problem_id, a.index, a.judge): a for a in logged}
    found = []
    for problem in problems:
        key = verdict_key(problem.answer, problem.domain, judge)
        attempts = [
            known.get((problem.id, index, key)) for index in range(wanted.protocol.attempts)
        ]
        have = [attempt for attempt in attempts if attempt is not None]
        if len(have) < wanted.protocol.attempts:
            raise RuntimeError(f"attempt log {wanted.fingerprint} lacks attempts at {problem.id}")
        found.append(have)
    return found


def check_verdicts(attempts: list[list[Attempt]], max_error_share: float) -> None:
    """VerificationError when too many verdicts of a finished benchmark are TIMEOUT or ERROR."""
    health = Health(max_error_share, min_count=20)
    health.counts.update(attempt.verdict for item in attempts for attempt in item)
    health.check()
