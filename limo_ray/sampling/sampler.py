"""The sampler: one engine, kept busy with the attempts that are needed, all of them logged.

`sample` is a stage of a Ray Data pipeline: problems go in, decided problems come out. Inside, one
`Sampler` actor per engine replica shares the engine's slots among hundreds of problems, judges
each completion, and writes it to the attempt log before the problem leaves. What the log already
holds is never drawn again: the same command resumes, whatever was killed.
"""

import asyncio
import atexit
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.partials import Partial, Partials
from limo_ray.core.errors import EngineError
from limo_ray.core.prompts import question_messages
from limo_ray.core.records import PROBLEM, SAMPLED, Attempt, Problem
from limo_ray.engines import base as engines
from limo_ray.engines.base import Completion, EngineConfig, Request
from limo_ray.sampling import preemption, ray_data_settings, ray_internals
from limo_ray.sampling.batching import batch_sizes
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.log_session import LogSession
from limo_ray.sampling.scheduler import ProblemTask, Scheduler
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision
from limo_ray.storage.store import Store
from limo_ray.verify import (
    Health,
    JudgeConfig,
    VerificationError,
    Verifier,
    final_verdict,
    judge_key,
)

log = logging.getLogger(__name__)

REPORT_S = 1.0
DRAIN_EVERY_S = 5.0  # between two looks at whether the node is about to be taken away
CUT_S = 10.0  # at the most, for cut-off draws to come back


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    flush_s: float = 3.0
    """Seconds between two parts of the attempt log: what a kill can cost at the most."""
    speculative_share: float = 0.05
    """Largest share of attempts that may be drawn past certain need while an engine would idle."""
    verify_workers: int = 1
    """Processes per engine for answers that need the slow checker."""
    verify_timeout_s: float = 5.0
    """Seconds that one check may take before it is killed (verdict TIMEOUT)."""
    max_error_share: float = 0.05
    """The job stops when more than this share of all verdicts are TIMEOUT or ERROR."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """A model that is asked before an answer in words is called wrong; off without a url."""
    max_engine_deaths: int = 3
    """Times that each engine may die and be started again before the job stops."""
    partial_tokens: int = 512
    """An unfinished completion of at least so many tokens is saved when its engine is preempted
    (SIGTERM, a drained node) or the job interrupted, and goes on later; 0 saves none."""
    drain_margin_s: float = 15.0
    """Seconds before its node's announced end at which a sampler saves what it has and leaves."""

    def check(self) -> None:
        if self.flush_s <= 0:
            raise ValueError(f"flush_s: {self.flush_s} must be positive")
        if not 0 <= self.speculative_share < 1:
            raise ValueError(f"speculative_share: {self.speculative_share} must be in [0, 1)")
        if self.verify_workers < 1:
            raise ValueError(f"verify_workers: {self.verify_workers} must be at least 1")
        if not 0 < self.max_error_share <= 1:
            raise ValueError(f"max_error_share: {self.max_error_share} must be in (0, 1]")
        for name in ("partial_tokens", "drain_margin_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")


def start_coordinator() -> Any:
    """A `Coordinator` actor on the driver's own node: it is lost when the driver is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(Coordinator).options(scheduling_strategy=here, **options).remote()


def sample(
    problems: Dataset,
    engine: EngineConfig,
    stages: list[Stage],
    store: Store,
    *,
    system: str,
    coordinator: Any,
    config: SamplerConfig,
    group_by: str = "",
    total: int = 0,
) -> Dataset:
    """Draws attempts at each problem until every stage's rule has decided it.

    Args:
        problems: rows of SAMPLED; those that are not alive pass through.
        engine: one pool of replicas; `device` is resolved (gpu or cpu), not auto.
        stages: passed in turn by each problem, all on this engine.
        store: holds the attempt log.
        system: the system prompt.
        coordinator: handle of a `Coordinator` actor.
        group_by: column whose values are the groups that `Coordinator.stop` names; "" for none.
        total: number of problems, where it is known: few of them are spread over all replicas.

    Returns:
        The rows with `alive` and `outcomes` brought up to date, in any order. Problems that were
        given up on the coordinator's word are left out. Nothing runs before the Dataset is
        consumed.
    """
    replicas = engine.min_replicas, engine.max_replicas
    rules = [stage.rule for stage in stages]
    batch, in_flight = batch_sizes(engine.max_num_seqs, *replicas, total, rules)
    pool = ActorPoolStrategy(
        min_size=engine.min_replicas,
        max_size=engine.max_replicas,
        max_tasks_in_flight_per_actor=in_flight,
        max_concurrent_calls_per_actor=in_flight,
        enable_true_multi_threading=True,
    )
    for stage in stages:
        offered = ray.get(coordinator.index.remote(stage.fingerprint))
        if not offered:
            offered = [ray.put(AttemptLog(store, stage.fingerprint).read_index())]
            ray.get(coordinator.offer_index.remote(stage.fingerprint, offered))
        Partials(store, stage.fingerprint).delete_used(ray.get(offered[0]))
    blocks = ray_data_settings.in_small_blocks(problems).repartition(
        target_num_rows_per_block=batch
    )
    return blocks.map_batches(
        Sampler,
        fn_constructor_kwargs={
            "engine": engine,
            "stages": stages,
            "store": store,
            "system": system,
            "coordinator": coordinator,
            "config": config,
            "group_by": group_by,
        },
        batch_size=batch,  # Ray Data wants a number wherever GPUs are asked for
        batch_format="pyarrow",
        compute=pool,
        **_placement(engine),
    )


def _placement(engine: EngineConfig) -> dict[str, Any]:
    """What each replica asks of Ray, a placement group of its own included."""
    asked = engines.ray_options(engine)
    asked["memory"] = 0  # Ray Data would ask for the size of what comes out, of nodes yet to come
    if engine.bundles:
        from ray.util.placement_group import placement_group

        def own_group() -> dict[str, Any]:
            group = placement_group(
                engine.bundles,
                strategy=engine.bundle_strategy,
                bundle_label_selector=[engine.labels] * len(engine.bundles),
            )
            return {
                "scheduling_strategy": PlacementGroupSchedulingStrategy(
                    placement_group=group, placement_group_capture_child_tasks=True
                )
            }

        asked["ray_remote_args_fn"] = own_group
    return asked


class Sampler:
    """One engine replica at work. Called by several threads at once, a batch of problems each."""

    def __init__(
        self,
        engine: EngineConfig,
        stages: list[Stage],
        store: Store,
        system: str,
        coordinator: Any,
        config: SamplerConfig,
        group_by: str = "",
    ) -> None:
        self.stages = stages
        self.system = system
        self.coordinator = coordinator
        self.config = config
        self.group_by = group_by
        self.log_session = LogSession(store, stages, coordinator, config.flush_s)
        self.engine_config = engine
        self.scheduler = Scheduler(stages, config.speculative_share)
        self.verifier = Verifier(
            workers=config.verify_workers, timeout_s=config.verify_timeout_s, judge=config.judge
        )
        self.health = Health(max_error_share=config.max_error_share)
        self.slots = engine.max_num_seqs + max(1, engine.max_num_seqs // 16)  # a few wait inside
        self.engine: engines.Engine | None = None
        self.node = ray.get_runtime_context().get_node_id()
        self.worker = f"{self.node[:8]}-{os.getpid()}-{id(self):x}"
        self.started = time.time()
        self.verdicts = [Counter[str]() for _ in stages]
        self.priors = [Counter[str]() for _ in stages]  # verdicts that the log knew
        self.tokens = [Counter[str]() for _ in stages]
        self.decisions = [Counter[str]() for _ in stages]
        self.open = 0  # requests in the engine
        self.checked, self.check_s = 0, 0.0  # answers, and seconds of waiting for their verdicts
        self.deaths = 0
        self.stopping = False  # draws nothing more
        self.halted = False  # and has written all that it had
        self.preempted = False
        self.cut: list[tuple[int, Partial]] = []  # (place, what was drawn) of cut-off draws
        self.left: set[str] = set()
        self.failure: BaseException | None = None
        self.prompts: dict[str, list[int]] = {}
        self.draws: dict[str, dict[int, asyncio.Task[None]]] = {}
        self.waiting: dict[str, asyncio.Future[bool]] = {}
        self.tasks: dict[str, ProblemTask] = {}  # of the problems that are waited for
        self.loop = asyncio.new_event_loop()
        self.wake = asyncio.Event()
        threading.Thread(target=self._work, name="sampler", daemon=True).start()
        preemption.leave_on_sigterm(self._preempt)
        atexit.register(self.log_session.flush_at_last)

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        for job in (
            self._pump(),
            self.log_session.keep_flushing(),
            self._reporter(),
            self._watch_node(),
        ):
            self.loop.create_task(job).add_done_callback(self._ended)
        self.loop.run_forever()

    def _ended(self, job: "asyncio.Task[None]") -> None:
        if not job.cancelled() and (error := job.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Ends every batch with the error, so that the job ends with it too."""
        if self.failure:
            return
        self.failure = error
        self.log_session.flush_at_last()  # what was drawn until now is not lost
        self.log_session.fail(error)
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(self.failure)

    # A batch, from Ray's threads.

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        alive = [row for row in rows if row["alive"]]
        if alive:
            key = f"{self.stages[0].name}:{alive[0]['id']}"
            if ray.get(self.coordinator.claim.remote(key)):
                self.log_session.refresh()
            job = asyncio.run_coroutine_threadsafe(self._batch(alive), self.loop)
            ended = job.result()
            rows = [row for row in rows if not row["alive"] or row["id"] in ended]
            for row in alive:
                if task := ended.get(row["id"]):
                    _bring_up_to_date(row, task, self.stages)
        return pa.Table.from_pylist(rows, schema=SAMPLED)

    async def _batch(self, rows: list[dict[str, Any]]) -> dict[str, ProblemTask]:
        """The tasks of the batch that were decided; a halt leaves out the others."""
        for row in rows:
            # Ray sends a batch again when the connection broke: this process may still have it.
            if row["id"] not in self.waiting:
                self._take(row)
        tasks = {row["id"]: self.tasks[row["id"]] for row in rows}
        futures = {name: self.waiting[name] for name in tasks}
        self.wake.set()
        try:
            decided = {name: await asyncio.shield(future) for name, future in futures.items()}
        finally:
            for name, future in futures.items():
                future.cancel()
                if self.waiting.get(name) is future:
                    del self.waiting[name], self.tasks[name]
                    self.prompts.pop(name, None)
        await self.log_session.written()
        await self._report()  # what the job reads at its end includes every batch
        return {name: task for name, task in tasks.items() if decided[name]}

    def _take(self, row: dict[str, Any]) -> None:
        """A problem's task begins, unless there is nothing to do for it."""
        problem = Problem(**{name: row[name] for name in PROBLEM.names})
        first = self.scheduler.first_stage(0, problem.id)
        task = ProblemTask(problem=problem, order=row["order"], stage_index=first or 0)
        self.tasks[problem.id] = task
        self.waiting[problem.id] = self.loop.create_future()
        if self.failure:
            self.waiting[problem.id].set_exception(self.failure)
        elif self._unwanted(problem):
            self.waiting[problem.id].set_result(False)
        elif first is None:
            self.waiting[problem.id].set_result(True)
        else:
            self._admit(task)

    def _unwanted(self, problem: Problem) -> bool:
        """By the job. A preempted sampler's batches are for another: they must not seem done."""
        over = self.stopping and not self.preempted
        return over or self._group(problem) in self.left

    def _group(self, problem: Problem) -> str:
        return str(getattr(problem, self.group_by)) if self.group_by else ""

    def _judge_key(self, problem: Problem) -> str:
        return judge_key(problem.answer, problem.domain, self.config.judge)

    def _admit(self, task: ProblemTask) -> None:
        problem = task.problem
        prior = self.log_session.known(task.stage_index, problem.id, self._judge_key(problem))
        try:
            for verdict in prior.verdicts.values():
                self.priors[task.stage_index][verdict] += 1
                self.health.add(verdict)  # a bad run does not become a good one by being resumed
        except VerificationError as error:
            self._fail(error)
            return
        self.scheduler.admit(task, prior.verdicts)
        self._settle(task)

    def _settle(self, task: ProblemTask) -> None:
        """Takes a decision if there is one: attempts past it are aborted, the next stage begins."""
        decision = self.scheduler.decision(task)
        if decision is None:
            return
        counts = self.scheduler.counts[task.stage_index]
        for draw in self.draws.pop(task.problem.id, {}).values():
            counts.aborted += draw.cancel()
        self.decisions[task.stage_index][decision] += 1
        if self.scheduler.advance(task, decision):
            self._admit(task)
        elif not self.waiting[task.problem.id].done():
            self.waiting[task.problem.id].set_result(True)

    # The engine's slots.

    async def _pump(self) -> None:
        """Starts draws whenever slots are free."""
        starved = 0.0
        while True:
            self.wake.clear()
            idle = starved > 0 and time.monotonic() - starved > 1.0
            while self.open < self.slots and not self.stopping and not self.failure:
                chosen = self.scheduler.next_attempt(idle)
                if chosen is None:
                    starved = starved or time.monotonic()
                    break
                starved = 0.0
                if self.engine is None:
                    await self._start_engine()
                task, draw = chosen
                if task.ended or self.stopping:  # given up while the engine started
                    self.scheduler.give_back(task, draw)
                    continue
                self.open += 1
                job = self.loop.create_task(self._draw(task, draw))
                self.draws.setdefault(task.problem.id, {})[draw] = job
                job.add_done_callback(self._ended)
            try:
                await asyncio.wait_for(self.wake.wait(), timeout=0.5)
            except TimeoutError:
                continue

    async def _start_engine(self) -> None:
        if len(self.log_session):
            await asyncio.sleep(3 * REPORT_S)  # the log may hold enough: then a halt is on its way
            if self.stopping:
                return
        self.engine = engines.create(self.engine_config)
        await self.engine.start()
        self.started = time.time()

    async def _draw(self, task: ProblemTask, draw: int) -> None:
        engine = self.engine
        assert engine is not None
        problem, place = task.problem, task.stage_index
        stage = self.stages[place]
        if problem.id not in self.prompts:
            messages = question_messages(problem.question, self.system)
            self.prompts[problem.id] = engine.render(messages)
        prompt = self.prompts[problem.id]
        partial = None
        if len(self.log_session.partials[place]):
            partial = await asyncio.to_thread(
                self.log_session.partials[place].find, problem.id, draw
            )
        try:
            completion = await engine.generate(
                Request(
                    problem=problem,
                    index=draw,
                    prompt=prompt,
                    sampling=stage.sampling,
                    prefix=partial.tokens if partial else [],
                )
            )
        except EngineError as error:
            if not task.ended:
                self.scheduler.give_back(task, draw)
            self._revive(engine, error)
            return
        finally:
            self.open -= 1
            self.wake.set()
        if completion.finish_reason == "cut":
            self._keep_cut(task, draw, completion)
            return
        asked = time.monotonic()
        judged = await self.verifier.averify(
            problem.answer,
            completion.text,
            problem.domain,
            complete=completion.finish_reason != "length",
            question=problem.question,
        )
        self.checked, self.check_s = self.checked + 1, self.check_s + time.monotonic() - asked
        verdict = final_verdict(judged.verdict, completion.finish_reason)
        self.health.add(verdict)
        self.log_session.append(
            place,
            Attempt(
                problem_id=problem.id,
                index=draw,
                completion=completion.text,
                finish_reason=completion.finish_reason,
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
                verdict=verdict,
                extracted=judged.extracted,
                judge=self._judge_key(problem),
            ),
        )
        self.scheduler.counts[place].continued += partial is not None
        self.verdicts[place][verdict] += 1
        self.tokens[place]["prompt"] += completion.prompt_tokens
        self.tokens[place]["completion"] += completion.completion_tokens
        self.draws.get(problem.id, {}).pop(draw, None)
        self.scheduler.finish(task, draw, verdict)
        self._settle(task)
        self.wake.set()

    def _revive(self, dead: engines.Engine, error: EngineError) -> None:
        """Lets the pump start a new engine for one that died; its draws are drawn again."""
        if self.engine is not dead:
            return  # another of its draws said so before
        self.engine = None
        self.deaths += 1
        dead.shutdown()
        if self.deaths > self.config.max_engine_deaths:
            raise EngineError(f"{error} ({self.deaths} times: giving up)") from error
        log.warning("%s: starting it again (%d)", error, self.deaths)

    # Preemption.

    async def _watch_node(self) -> None:
        """Leaves in time when Ray says that this node is about to be taken away."""
        while True:
            left = await asyncio.to_thread(ray_internals.seconds_until_drained, self.node)
            if left is not None and left <= self.config.drain_margin_s:
                log.warning("node %s goes away in %.0f s: saving and leaving", self.node, left)
                os.kill(os.getpid(), signal.SIGTERM)  # Ray starts this actor again elsewhere
                return
            wait = DRAIN_EVERY_S if left is None else left - self.config.drain_margin_s
            await asyncio.sleep(min(DRAIN_EVERY_S, wait))

    def _preempt(self) -> None:
        """On SIGTERM: cuts off what the engine draws, saves it, and flushes the log."""
        if self.preempted:
            return
        self.preempted = True
        saved = asyncio.run_coroutine_threadsafe(self._save(), self.loop)
        try:
            saved.result(timeout=2 * CUT_S)
        except TimeoutError:
            log.warning("preempted: not everything could be saved in time")
        if self.engine is not None:
            self.engine.shutdown()

    async def _save(self) -> None:
        """Stops drawing and writes everything: attempts, and what is unfinished."""
        self.stopping = True
        self.log_session.flush_at_last()
        draws = [job for jobs in self.draws.values() for job in jobs.values()]
        if self.engine is not None and self.config.partial_tokens:
            await self.engine.cut_off()
            if draws:
                await asyncio.wait(draws, timeout=CUT_S)
        cut, self.cut = self.cut, []
        self.log_session.save_cut(cut)
        self.log_session.flush_at_last()

    def _keep_cut(self, task: ProblemTask, draw: int, completion: Completion) -> None:
        """Takes back a draw that was cut off; what there is of it is saved if it is long."""
        if not task.ended:
            self.scheduler.give_back(task, draw)
        if len(completion.tokens) >= self.config.partial_tokens:
            partial = Partial(
                problem_id=task.problem.id,
                index=draw,
                tokens=completion.tokens,
                completion=completion.text,
            )
            self.cut.append((task.stage_index, partial))

    # The coordinator.

    async def _report(self) -> tuple[bool, bool, set[str]]:
        halt, resumable, left = await self.coordinator.report.remote(self.worker, self._stats())
        return halt, resumable, left

    async def _reporter(self) -> None:
        """Once a second: running totals to the coordinator, its word back."""
        while True:
            halt, resumable, left = await self._report()
            if halt and not self.halted:
                if resumable:
                    await self._save()
                self.stopping = True
                self._give_up(lambda problem: True)
                await asyncio.to_thread(self.log_session.flush_at_last)
                self.halted = True
            if left - self.left:
                self.left = set(left)
                self._give_up(lambda problem: self._group(problem) in self.left)
            await asyncio.sleep(REPORT_S)

    def _give_up(self, unwanted: Callable[[Problem], bool]) -> None:
        for task in [t for t in self.scheduler.active.values() if unwanted(t.problem)]:
            for draw in self.draws.pop(task.problem.id, {}).values():
                self.scheduler.counts[task.stage_index].aborted += draw.cancel()
            self.scheduler.abandon(task)
            if not self.waiting[task.problem.id].done():
                self.waiting[task.problem.id].set_result(False)

    def _stats(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "halted": self.halted,
            "engine": self.engine is not None,
            "open": self.open,
            "slots": self.slots,
            "lag": self.log_session.lag(),
            "checked": self.checked,
            "check_seconds": self.check_s,
            "active": len(self.scheduler.active),
            "seconds": time.time() - self.started if self.engine else 0.0,
            "stages": {
                stage.name: {
                    **asdict(self.scheduler.counts[place]),
                    "verdicts": dict(self.verdicts[place]),
                    "priors": dict(self.priors[place]),
                    "tokens": dict(self.tokens[place]),
                    "decisions": dict(self.decisions[place]),
                }
                for place, stage in enumerate(self.stages)
            },
        }


def _bring_up_to_date(row: dict[str, Any], task: ProblemTask, stages: list[Stage]) -> None:
    """Writes a task's outcomes into its row."""
    gates = {stage.name for stage in stages if stage.gate}
    row["outcomes"] = json.dumps(
        json.loads(row["outcomes"] or "[]") + [asdict(outcome) for outcome in task.outcomes]
    )
    row["alive"] = all(
        outcome.decision == Decision.KEEP for outcome in task.outcomes if outcome.stage in gates
    )
    if not row["alive"]:
        row["question"] = row["answer"] = row["metadata"] = ""
