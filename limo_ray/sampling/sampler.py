"""The sampler: one engine, kept busy with the attempts that are needed, all of them logged.

Ray Data calls a `Sampler` actor with batches of problems, from several threads at once (see
limo_ray/sampling/ray_stage.py). An event loop in a thread of its own does the work:

    _take             a problem of a batch begins with what the log knows of it
    _start_attempts   starts attempts while the engine has free slots
    _attempt          one attempt: render, generate, verify, record
    _apply_decision   ends a problem's stage; its batch returns when all its problems are decided

Beside it run the log's flushing, the reports to the coordinator and the watch of the node.
"""

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import ray

from limo_ray.core.prompts import question_messages
from limo_ray.core.records import PROBLEM, SAMPLED, Attempt, Problem
from limo_ray.engines.base import Completion, Engine, EngineConfig, NoAttempt, Request
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator_link import REPORT_S, CoordinatorLink
from limo_ray.sampling.draining import Draining, exit_on_sigterm, watch_node
from limo_ray.sampling.log_session import LogSession
from limo_ray.sampling.pending import Pending, undecided, update_row
from limo_ray.sampling.scheduler import ProblemTask, Scheduler
from limo_ray.sampling.slots import EngineSlots
from limo_ray.sampling.spending import SpendBudget
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.state import SUCCESSORS, State
from limo_ray.sampling.totals import Totals
from limo_ray.storage.store import Store
from limo_ray.verify import Health, VerificationError, Verifier, final_verdict, verdict_key

SPECULATE_AFTER_S = 1.0  # of free slots and no problem with room


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
        self.budget = SpendBudget(engine.api, config.spend_cap)
        self.stages = stages
        self.system = system
        self.config = config
        self.group_by = group_by
        self.state = State.RUNNING
        self.failure: BaseException | None = None
        self.pending: dict[str, Pending] = {}  # by problem id
        self.loop = asyncio.new_event_loop()
        self.wake = asyncio.Event()  # a slot is free, or a problem has room
        self.node = ray.get_runtime_context().get_node_id()
        self.log_session = LogSession(store, stages, coordinator, config.flush_s)
        self.scheduler = Scheduler(stages, config.speculative_share)
        self.totals = Totals(stages)
        self.verifier = Verifier(
            workers=config.verify_workers, timeout_s=config.verify_timeout_s,
            judge=config.judge, code=config.code,
        )  # fmt: skip
        self.health = Health(max_error_share=config.max_error_share)
        self.slots = EngineSlots(engine, config.max_engine_deaths, self.wake.set)
        self.link = CoordinatorLink(
            coordinator,
            f"{self.node[:8]}-{os.getpid()}-{id(self):x}",
            self._stats,
            self.budget,
            halt=self._halt,
            stop_groups=lambda: self._give_up(self._in_stopped_group),
        )
        self.draining = Draining(
            self.loop, self.slots, self.log_session, config.partial_tokens, self._start_no_more
        )
        threading.Thread(target=self._work, name="sampler", daemon=True).start()
        exit_on_sigterm(self.draining.preempt)
        atexit.register(self.log_session.final_flush)

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        for job in (
            self._start_attempts(),
            self.log_session.keep_flushing(),
            self.link.keep_reporting(),
            watch_node(self.node, self.config.drain_margin_s),
        ):
            self.loop.create_task(job).add_done_callback(self._ended)
        self.loop.run_forever()

    def _ended(self, job: "asyncio.Task[None]") -> None:
        if not job.cancelled() and (error := job.exception()):
            self._fail(error)

    # The state. All of it changes in the loop's thread.

    def _change(self, state: State) -> bool:
        """Changes the state; False if this one may not follow the present one."""
        if state not in SUCCESSORS[self.state]:
            return False
        self.state = state
        return True

    def _fail(self, error: BaseException) -> None:
        """Ends every batch with the error, so that the job ends with it too."""
        if not self._change(State.FAILED):
            return
        self.failure = error
        self.log_session.final_flush()
        self.log_session.fail(error)
        for pending in self.pending.values():
            pending.fail(error)

    def _start_no_more(self) -> "list[asyncio.Task[None]]":
        """Drains a running sampler; returns its open attempts."""
        self._change(State.DRAINING)
        return self._open_attempts()

    async def _halt(self, resumable: bool) -> None:
        """Stops for good, with everything written that is worth it."""
        if self.state in (State.STOPPED, State.FAILED):
            return
        self._change(State.DRAINING)
        if resumable:
            await self.draining.save()
        self._give_up(lambda problem: True)
        await asyncio.to_thread(self.log_session.final_flush)
        if self._change(State.STOPPED):
            self._give_up(lambda problem: True)  # those that came meanwhile

    def _give_up(self, unwanted: Callable[[Problem], bool]) -> None:
        """Ends problems undecided, and their attempts."""
        for pending in self.pending.values():
            task = pending.task
            if unwanted(task.problem) and not pending.decided.done():
                self.scheduler.counts[task.stage_index].aborted += pending.abort_attempts()
                self.scheduler.abandon(task)
                pending.decide(False)

    def _group(self, problem: Problem) -> str:
        return str(getattr(problem, self.group_by)) if self.group_by else ""

    def _in_stopped_group(self, problem: Problem) -> bool:
        return self._group(problem) in self.link.stopped_groups

    # A batch, from Ray's threads.

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        alive = [row for row in rows if row["alive"]]
        if alive:
            if self.link.claim(f"{self.stages[0].name}:{alive[0]['id']}"):
                self.log_session.refresh()
            job = asyncio.run_coroutine_threadsafe(self._decide(alive), self.loop)
            decided = job.result()
            rows = [row for row in rows if not row["alive"] or row["id"] in decided]
            for row in alive:
                if task := decided.get(row["id"]):
                    update_row(row, task, self.stages)
        return pa.Table.from_pylist(rows, schema=SAMPLED)

    async def _decide(self, rows: list[dict[str, Any]]) -> dict[str, ProblemTask]:
        """The batch's tasks by problem id, without those that the job stopped undecided."""
        for row in rows:
            # Ray sends a batch again when the connection broke: this process may still have it.
            if row["id"] not in self.pending:
                self._take(row)
        mine = {row["id"]: self.pending[row["id"]] for row in rows}
        self.wake.set()
        try:
            decided = {name: await asyncio.shield(each.decided) for name, each in mine.items()}
        finally:
            for name, each in mine.items():
                each.decided.cancel()
                if self.pending.get(name) is each:
                    del self.pending[name]
        await self.log_session.written()
        await self.link.report()  # what the job reads at its end includes every batch
        return {name: each.task for name, each in mine.items() if decided[name]}

    def _take(self, row: dict[str, Any]) -> None:
        """Begins with a problem, unless there is nothing to do for it."""
        problem = Problem(**{name: row[name] for name in PROBLEM.names})
        task = ProblemTask(problem=problem, order=row["order"], undecided=undecided(row))
        first = self.scheduler.first_stage(0, task)
        task.stage_index = first or 0
        pending = self.pending[problem.id] = Pending(task, self.loop.create_future())
        if self.failure:
            pending.fail(self.failure)
        elif self.state is State.STOPPED or self._in_stopped_group(problem):
            pending.decide(False)
        elif first is None:
            pending.decide(True)
        elif self.state is State.RUNNING:
            self._admit(pending)

    def _admit(self, pending: Pending) -> None:
        """A stage begins, with the verdicts that the log has."""
        task = pending.task
        key = self._verdict_key(task.problem)
        known = self.log_session.known(task.stage_index, task.problem.id, key)
        try:
            for verdict in known.verdicts.values():
                self.totals.add_prior(task.stage_index, verdict)
                self.health.add(verdict)  # a bad run does not become a good one by being resumed
        except VerificationError as error:
            self._fail(error)
            return
        self.scheduler.admit(task, known.verdicts)
        self._apply_decision(pending)

    def _apply_decision(self, pending: Pending) -> None:
        """Once a stage is decided: aborts further attempts, and goes to the next stage."""
        task = pending.task
        decision = self.scheduler.decision(task)
        if decision is None:
            return
        self.scheduler.counts[task.stage_index].aborted += pending.abort_attempts()
        self.totals.stages[task.stage_index].decisions[decision] += 1
        if self.scheduler.advance(task, decision):
            self._admit(pending)
        else:
            pending.decide(True)

    def _verdict_key(self, problem: Problem) -> str:
        return verdict_key(problem.answer, problem.domain, self.config.judge)

    # Attempts.

    async def _start_attempts(self) -> None:
        """Starts attempts whenever slots are free."""
        idle_since = 0.0
        while True:
            self.wake.clear()
            idle = idle_since > 0 and time.monotonic() - idle_since > SPECULATE_AFTER_S
            while self.slots.free and self.state is State.RUNNING and self.budget.allows_attempt():
                chosen = self.scheduler.next_attempt(idle)
                if chosen is None:
                    idle_since = idle_since or time.monotonic()
                    break
                idle_since = 0.0
                await self._start(*chosen)
            try:
                await asyncio.wait_for(self.wake.wait(), timeout=0.5)
            except TimeoutError:
                continue

    def _open_attempts(self) -> "list[asyncio.Task[None]]":
        """Attempts with the engine or the verifier."""
        return [each for pending in self.pending.values() for each in pending.attempts.values()]

    async def _start(self, task: ProblemTask, index: int) -> None:
        """Starts an attempt, and before it the engine if there is none."""
        engine = self.slots.engine or await self._start_engine()
        if engine is None or task.ended or self.state is not State.RUNNING:
            self.scheduler.give_back(task, index)
            return
        pending = self.pending[task.problem.id]
        attempt = self.loop.create_task(self._attempt(engine, pending, index))
        pending.attempts[index] = attempt
        self.slots.take(attempt)
        attempt.add_done_callback(self._ended)

    async def _start_engine(self) -> Engine | None:
        if len(self.log_session):
            await asyncio.sleep(3 * REPORT_S)  # the log may hold enough: then a halt is on its way
        return await self.slots.start() if self.state is State.RUNNING else None

    async def _attempt(self, engine: Engine, pending: Pending, index: int) -> None:
        """One attempt: render, generate, verify, record."""
        stage_index = pending.task.stage_index
        request = await self._render(engine, pending, index)
        completion = await self._generate(engine, pending, request)
        if completion is not None:
            self.budget.add(completion)
            attempt = await self._verify(request, completion)
            self._record(pending, stage_index, attempt, continued=bool(request.prefix))

    async def _render(self, engine: Engine, pending: Pending, index: int) -> Request:
        """The prompt, and the saved beginning of the completion if there is one."""
        problem, stage_index = pending.task.problem, pending.task.stage_index
        if not pending.prompt:
            pending.prompt = engine.render(question_messages(problem.question, self.system))
        partials = self.log_session.partials[stage_index]
        partial = None
        if len(partials):
            partial = await asyncio.to_thread(partials.find, problem.id, index)
        return Request(
            problem=problem,
            index=index,
            prompt=pending.prompt,
            sampling=self.stages[stage_index].sampling,
            prefix=partial.tokens if partial else [],
        )

    async def _generate(
        self, engine: Engine, pending: Pending, request: Request
    ) -> Completion | None:
        """The whole completion; None if the engine has none, died, or was cut off on the way."""
        try:
            completion = await self.slots.generate(engine, request)
        except NoAttempt:
            self._exhaust(pending, request.index)
            return None
        if completion is not None and completion.finish_reason != "cut":
            return completion
        task = pending.task
        pending.attempts.pop(request.index, None)
        if not task.ended:
            self.scheduler.give_back(task, request.index)
        if completion is not None:
            self.draining.keep(task.stage_index, request, completion)
        self.wake.set()
        return None

    def _exhaust(self, pending: Pending, index: int) -> None:
        """The engine has no such attempt: the problem's stage ends with those that there are."""
        pending.attempts.pop(index, None)
        if not pending.task.ended:
            self.scheduler.exhaust(pending.task, index)
            self._apply_decision(pending)

    async def _verify(self, request: Request, completion: Completion) -> Attempt:
        problem = request.problem
        started = time.monotonic()
        judged = await self.verifier.averify(
            problem.answer,
            completion.text,
            problem.domain,
            complete=completion.finish_reason != "length",
            question=problem.question,
        )
        self.totals.add_verification(time.monotonic() - started)
        return Attempt(
            problem_id=problem.id,
            index=request.index,
            completion=completion.text,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            verdict=final_verdict(judged.verdict, completion.finish_reason),
            extracted=judged.extracted,
            judge=self._verdict_key(problem),
        )

    def _record(
        self, pending: Pending, stage_index: int, attempt: Attempt, *, continued: bool
    ) -> None:
        self.health.add(attempt.verdict)
        self.log_session.append(stage_index, attempt)
        self.totals.add_attempt(stage_index, attempt)
        self.scheduler.counts[stage_index].continued += continued
        pending.attempts.pop(attempt.index, None)
        self.scheduler.finish(pending.task, attempt.index, attempt.verdict)
        self._apply_decision(pending)
        self.wake.set()

    def _stats(self) -> dict[str, Any]:
        """Running totals, for the coordinator."""
        return {
            "pid": os.getpid(),
            "halted": self.state in (State.STOPPED, State.FAILED),
            "engine": self.slots.engine is not None,
            "open": self.slots.open,
            "paid": self.budget.api.paid,
            "dollars": self.budget.spent,
            "capped": self.budget.stops(bool(self.scheduler.active) and not self._open_attempts()),
            "slots": self.slots.size,
            "lag": self.log_session.lag(),
            "checked": self.totals.verified,
            "check_seconds": self.totals.verify_seconds,
            "active": len(self.scheduler.active),
            "seconds": self.slots.seconds,
            "stages": self.totals.by_stage(self.scheduler.counts),
        }
