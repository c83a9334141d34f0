"""Attempts at benchmark items, sampled into the attempt log.

    draw(one, tasks, store, config)

What the log holds is never drawn again, so that the same command goes on after any crash. Where a
gold answer or the verifier changed since, logged completions are judged again.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from limo_ray.attempts.log import AttemptLog
from limo_ray.core.records import SAMPLED, Attempt, Problem
from limo_ray.engines.base import SamplingConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.items import Items
from limo_ray.evaluate.models import Contestant
from limo_ray.sampling.progress import Progress
from limo_ray.sampling.ray_stage import sample, start_coordinator
from limo_ray.sampling.reverify import Answers, reverify_here
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store
from limo_ray.verify import CodeConfig, Health, JudgeConfig, judge_key

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Task:
    """One benchmark as one contestant is asked it."""

    items: Items
    protocol: str
    attempts: int
    sampling: SamplingConfig
    fingerprint: str


@dataclass(slots=True)
class Drawn:
    """What a draw came to: attempts new and from the log, and seconds."""

    new: int
    reused: int
    seconds: float


def stages(tasks: list[Task]) -> list[Stage]:
    """The passes over all items: one for each sampling and number of attempts.

    A question of two benchmarks under one sampling is drawn once, as often as either asks.
    """
    wanted: dict[str, dict[str, int]] = {}
    named: dict[str, Task] = {}
    for task in tasks:
        named.setdefault(task.fingerprint, task)
        most = wanted.setdefault(task.fingerprint, {})
        for problem in task.items.problems:
            most[problem.id] = max(most.get(problem.id, 0), task.attempts)
    found = []
    for fingerprint, most in wanted.items():
        task = named[fingerprint]
        counts = sorted(set(most.values()))
        for n in counts:
            found.append(
                Stage(
                    name=task.protocol if len(counts) == 1 else f"{task.protocol}, {n} attempts",
                    rule=StopRule(budget=n, keep_min=0, keep_max=n, early=False),
                    sampling=task.sampling, fingerprint=fingerprint, gate=False,
                    only=frozenset(name for name, count in most.items() if count == n),
                )
            )  # fmt: skip
    return found


def draw(one: Contestant, tasks: list[Task], store: Store, config: EvaluateConfig) -> Drawn:
    """Draws what is missing of a contestant's attempts and judges all of them.

    Raises:
        EngineError: an engine that does not start or keeps dying, a server that refuses or is away.
        VerificationError: too many verdicts are TIMEOUT or ERROR to trust a score.
    """
    begun = time.time()
    problems = {p.id: p for task in reversed(tasks) for p in task.items.problems}
    planned = stages(tasks)
    everything = [p for task in tasks for p in task.items.problems]
    judge = config.sampler.judge
    for fingerprint in {stage.fingerprint for stage in planned}:
        attempts = AttemptLog(store, fingerprint)
        attempts.compact()
        settle(everything, attempts, judge, config.sampler.code)
    missing = _missing(planned, problems, store, judge)
    asked = sum(stage.rule.budget * len(stage.only) for stage in planned)
    if missing:
        log.info("%s: %d of %d attempts to sample", one.label, missing, asked)
        _own(one, planned, problems, store, config)
        # a question with two gold answers was judged by the first
        for fingerprint in {stage.fingerprint for stage in planned}:
            settle(everything, AttemptLog(store, fingerprint), judge, config.sampler.code)
    return Drawn(missing, asked - missing, time.time() - begun)


def settle(
    problems: Iterable[Problem], attempts: AttemptLog, judge: JudgeConfig, code: CodeConfig
) -> None:
    """Judges logged attempts again whose verdict is missing under a problem's gold answer."""
    index = attempts.read_index()
    if not len(index):
        return
    rounds: list[Answers] = []  # one gold answer of a question each
    for problem in {(p.id, p.answer, p.domain): p for p in problems}.values():
        if index.known(problem.id, judge_key(problem.answer, problem.domain, judge)).stale:
            place = next((r for r in rounds if problem.id not in r), None)
            if place is None:
                rounds.append(place := {})
            place[problem.id] = (problem.answer, problem.domain, problem.question)
    for answers in rounds:
        log.info("judging the logged attempts at %d items again", len(answers))
        reverify_here(attempts, answers, judge, code)


def _missing(
    planned: list[Stage], problems: dict[str, Problem], store: Store, judge: JudgeConfig
) -> int:
    """How many attempts the log lacks."""
    missing = 0
    for stage in planned:
        index = AttemptLog(store, stage.fingerprint).read_index()
        for name in stage.only:
            problem = problems[name]
            key = judge_key(problem.answer, problem.domain, judge)
            have = index.known(name, key).verdicts
            missing += sum(i not in have for i in range(stage.rule.budget))
    return missing


def _own(
    one: Contestant, planned: list[Stage], problems: dict[str, Problem], store: Store,
    config: EvaluateConfig,
) -> None:  # fmt: skip
    """One pass through the model's engine; it ends with the pass."""
    rows = [
        {
            "id": p.id, "question": p.question, "answer": p.answer, "source": p.source,
            "domain": p.domain, "metadata": p.metadata, "file": "", "line": 0, "order": number,
            "alive": True, "outcomes": "[]",
        }
        for number, p in enumerate(problems.values())
    ]  # fmt: skip
    # an api engine has been patient before it raises: a new one would meet the same server
    deaths = 0 if one.at_endpoint else config.sampler.max_engine_deaths
    coordinator = start_coordinator()
    data = sample(
        ray.data.from_arrow(pa.Table.from_pylist(rows, schema=SAMPLED)),
        one.engine, planned, store, system=one.system, coordinator=coordinator,
        config=replace(config.sampler, max_engine_deaths=deaths), total=len(rows),
    )  # fmt: skip
    data.set_name("sampling")
    with Watch(coordinator, planned, len(rows)) as watch:
        try:
            for _ in data.iter_batches(batch_size=None, batch_format="pyarrow"):
                pass
        except KeyboardInterrupt:
            watch.interrupt()
            raise
    ray.kill(coordinator)


class Watch(Progress):
    """The samplers' progress in the words of an evaluation."""

    COLUMNS = ("protocol", "items", "attempts", "from log", "correct", "tokens")

    def facts(self) -> dict[str, Any]:
        self.total = sum(stage.rule.budget * len(stage.only) for stage in self.stages)
        found = super().facts()
        return found | {"attempts": found.pop("decided"), "of": found.pop("problems")}

    def rows(self) -> list[list[str]]:
        found = []
        for stage, total in zip(self.stages, self.totals().values(), strict=True):
            reused = total.get("reused", 0)
            done = sum(total["verdicts"].values()) + reused
            found.append([
                stage.name, f"{sum(total['decisions'].values()):,} of {len(stage.only):,}",
                f"{done:,}", f"{reused:,}",
                f"{total['verdicts'].get('correct', 0) + total['priors'].get('correct', 0):,}",
                f"{total['tokens'].get('completion', 0):,}",
            ])  # fmt: skip
        return found

    def _decided(self) -> tuple[int, int]:
        """Attempts that are there, instead of problems: they all take their whole budget."""
        return sum(sum(t["verdicts"].values()) + t.get("reused", 0)
                   for t in self.totals().values()), 0  # fmt: skip

    def head(self) -> str:
        engines = sum(worker["engine"] for worker in self.workers.values())
        seconds = max((worker["seconds"] for worker in self.workers.values()), default=0.0)
        tokens = sum(total["tokens"].get("completion", 0) for total in self.totals().values())
        speed = f"{tokens / seconds:,.0f} tokens/s" if seconds > 1 else "engine starting"
        self.total = sum(stage.rule.budget * len(stage.only) for stage in self.stages)
        done, _ = self._decided()
        return (
            f"{done:,} of {self.total:,} attempts, {engines} engine(s), {speed}, "
            f"{self._left(done, 0)}"
        )


def collect(task: Task, store: Store, judge: JudgeConfig) -> list[list[Attempt]]:
    """Each item's attempts in the order of their index, with the verdict on its gold answer.

    Raises RuntimeError when the log lacks any of them.
    """
    names = sorted({problem.id for problem in task.items.problems})
    logged = AttemptLog(store, task.fingerprint).attempts(names)
    known = {(a.problem_id, a.index, a.judge): a for a in logged}
    found = []
    for problem in task.items.problems:
        key = judge_key(problem.answer, problem.domain, judge)
        mine = [known.get((problem.id, index, key)) for index in range(task.attempts)]
        have = [attempt for attempt in mine if attempt is not None]
        if len(have) < task.attempts:
            raise RuntimeError(f"attempt log {task.fingerprint} lacks attempts at {problem.id}")
        found.append(have)
    return found


def check(attempts: list[list[Attempt]], max_error_share: float) -> None:
    """VerificationError when too many verdicts of a finished benchmark are TIMEOUT or ERROR."""
    health = Health(max_error_share, min_count=20)
    health.counts.update(attempt.verdict for item in attempts for attempt in item)
    health.check()
