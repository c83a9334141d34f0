"""The referee of the forecast: a sampling job attempt by attempt, with a scripted clock.

Real: `Scheduler` and `StopRule` say which attempt starts next, `Target` when enough is kept.
Modelled, as limo_ray.sampling and Ray Data do it: problems come to a replica in batches and leave
when their whole batch is decided and flushed; an engine is held back while `rows_ahead` wait for
the next one; an idle replica speculates after a second; all sequences of a replica decode in step;
a node goes with notice, so that long completions go on elsewhere and its batches are handed out
again.
"""

import heapq
import math
from bisect import bisect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from limo_ray.core.records import ORDER_BITS, Problem, Verdict
from limo_ray.plan.forecast import HALT_S, PassForecast
from limo_ray.sampling.scheduler import ProblemTask, Scheduler
from limo_ray.sampling.stop_rule import Decision
from limo_ray.sampling.stop_rule_math import RATES
from limo_ray.sampling.target import Target, buckets

SPECULATE_AFTER_S = 1.0


@dataclass(slots=True)
class StageCount:
    problems: int = 0
    kept: int = 0
    attempts: int = 0
    tokens: int = 0
    within: int = 0
    """Tokens at problems up to the last keeper wanted."""


@dataclass(slots=True)
class PassCount:
    stages: list[StageCount]
    end: float = 0.0
    decoded: float = 0.0
    speculative: int = 0
    preemptions: int = 0
    lost: int = 0
    saved: int = 0
    lost_tokens: float = 0.0


@dataclass(slots=True)
class Outcome:
    seconds: float
    sampled: int
    kept: int
    reached: bool
    passes: list[PassCount]


@dataclass(slots=True, eq=False)
class Completion:
    task: ProblemTask
    attempt: int
    stage: int
    tokens: int
    correct: bool
    done: float = 0.0
    end: float | None = None
    """On the replica's token clock; None while it waits for a slot."""
    aborted: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    tasks: list[ProblemTask]
    undecided: int = 0


@dataclass(slots=True, eq=False)
class Replica:
    model: PassForecast
    up_at: float
    ready_at: float = math.inf
    """When the engine, which starts with the first problem, decodes."""
    scheduler: Scheduler = field(init=False)
    batches: dict[Batch, None] = field(default_factory=dict)
    """In the order in which they came: a set would be in the order of addresses."""
    batch_of: dict[str, Batch] = field(default_factory=dict)
    open: dict[tuple[str, int], Completion] = field(default_factory=dict)
    running: list[tuple[float, int, Completion]] = field(default_factory=list)
    waiting: deque[Completion] = field(default_factory=deque)
    started: int = 0
    active: int = 0
    clock: float = 0.0
    at: float = 0.0
    idle_since: float = -1.0
    alarm: int = 0
    decoded: float = 0.0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.model.stages, self.model.sampler.speculative_share)

    def advance(self, now: float) -> None:
        spent = now - max(self.at, min(now, self.ready_at))
        self.at = now
        if self.active and spent > 0:
            ticks = spent / self.step
            self.clock += ticks
            self.decoded += ticks * self.active

    @property
    def step(self) -> float:
        return float(np.ravel(self.model.speed.step(self.active))[0])

    def start(self, completion: Completion | None = None) -> None:
        """Takes one more, and fills free slots."""
        if completion:
            self.open[completion.task.problem.id, completion.attempt] = completion
            self.waiting.append(completion)
        while self.waiting and self.active < self.model.allocation.engine.max_num_seqs:
            following = self.waiting.popleft()
            if not following.aborted:
                following.end = self.clock + following.tokens - following.done
                self.active += 1
                self.started += 1
                heapq.heappush(self.running, (following.end, self.started, following))

    def abort(self, task: ProblemTask, attempt: int) -> None:
        completion = self.open.pop((task.problem.id, attempt))
        completion.aborted = True
        if completion.end is not None:
            self.active -= 1
            self.start()

    def until_next(self) -> float:
        while self.running and self.running[0][2].aborted:
            heapq.heappop(self.running)
        return max(0.0, self.running[0][0] - self.clock) * self.step if self.running else math.inf

    def next_ended(self) -> Completion | None:
        while self.running and self.running[0][0] <= self.clock + 1e-6:
            completion = heapq.heappop(self.running)[2]
            if not completion.aborted:
                self.active -= 1
                del self.open[completion.task.problem.id, completion.attempt]
                self.start()
                return completion
        return None


class Simulation:
    def __init__(
        self, passes: list[PassForecast], problems: int, wanted: int = 0, overlap: bool = True,
        seed: int = 0,
    ) -> None:  # fmt: skip
        """Takes the first of each model's samples; `run` runs the job."""
        self.passes, self.problems, self.overlap, self.random = (
            passes,
            problems,
            overlap,
            Random(seed),
        )
        orders = np.random.default_rng(seed).integers(0, 1 << ORDER_BITS, problems, dtype=np.int64)
        self.orders = np.sort(orders)
        self.target = Target(wanted, buckets(self.orders)) if wanted else None
        self.replicas: list[list[Replica]] = [[] for _ in passes]
        self.counts = [PassCount([StageCount() for _ in model.stages]) for model in passes]
        self.queues = [deque[ProblemTask]() for _ in passes]
        self.queues[0].extend(map(self._task, range(problems)))
        self.returned: list[deque[Batch]] = [deque() for _ in passes]
        self.left = [0] * len(passes)  # problems that left each pass
        self.dropped: set[str] = set()
        self.rates: dict[tuple[str, int, int], float] = {}
        self.partials: dict[tuple[str, int, int, int], Completion] = {}
        self.spent: list[tuple[StageCount, int, int]] = []  # stage, problem, tokens
        self.kept = 0
        self.now, self.ends, self.number = 0.0, math.inf, 0
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.cumulated = [[s.rates[:, 0].cumsum().tolist() for s in m.samples] for m in passes]
        self.lengths = [
            [[x[:, 0].astype(int).tolist() for x in (s.other, s.correct)] for s in model.samples]
            for model in passes
        ]

    def run(self) -> Outcome:
        for index in range(len(self.passes) if self.overlap else 1):
            self._begin(index)
        while self.events and self.left[-1] < self.problems and self.events[0][0] <= self.ends:
            self.now, _, event, arguments = heapq.heappop(self.events)
            event(*arguments)
        if self.ends < math.inf:
            self.now = self.ends
        cutoff = self.target.cutoff() if self.target else None
        sampled = self.problems
        if cutoff is not None:
            sampled = int(np.searchsorted(self.orders, cutoff, side="right"))
        for stage, problem, tokens in self.spent:
            stage.within += tokens * (problem < sampled)
        for index, (count, replicas) in enumerate(zip(self.counts, self.replicas, strict=True)):
            if self.left[index] < self.problems:
                count.end = self.now
            for replica in replicas:
                replica.advance(self.now)
                count.decoded += replica.decoded
                count.speculative += sum(c.speculative for c in replica.scheduler.counts)
        kept = self.kept if cutoff is None or self.target is None else self.target.wanted
        return Outcome(self.now, sampled, kept, cutoff is not None, self.counts)

    def _task(self, number: int) -> ProblemTask:
        problem = Problem(id=str(number), question="", answer="", source="")
        return ProblemTask(problem=problem, order=int(self.orders[number]))

    def _later(self, delay: float, event: Callable[..., None], *arguments: Any) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + delay, self.number, event, arguments))

    def _begin(self, index: int) -> None:
        model = self.passes[index]
        up_at = self.now + model.allocation.node.start_s
        self.replicas[index] = [Replica(model, up_at) for _ in range(model.replicas)]
        self._later(model.allocation.node.start_s, self._feed, index)
        if model.allocation.node.preemptions_per_hour:
            self._preempt_later(index)

    # Batches in and out.

    def _feed(self, index: int) -> None:
        """Hands batches to the replicas with the fewest, while they have room."""
        model, fed = self.passes[index], []
        while there := [each for each in self.replicas[index] if each.up_at <= self.now]:
            replica = min(there, key=lambda each: len(each.batches))
            if len(replica.batches) >= model.batches or self._held_back(index):
                break
            batch = self._next_batch(index)
            if batch is None:
                break
            self._hand_out(index, replica, batch)
            fed.append(replica)
        for replica in dict.fromkeys(fed):
            self._pump(index, replica)
        if fed and index and self.overlap:
            self._feed(index - 1)

    def _held_back(self, index: int) -> bool:
        if not self.overlap or index + 1 == len(self.passes):
            return False
        most = self.passes[index].rows_ahead(self.passes[index + 1])
        return len(self.queues[index + 1]) >= most

    def _next_batch(self, index: int) -> Batch | None:
        if self.returned[index]:
            return self.returned[index].popleft()
        queue, size = self.queues[index], self.passes[index].batch
        all_came = index == 0 or self.left[index - 1] == self.problems
        if not queue or (len(queue) < size and not all_came):
            return None
        return Batch([queue.popleft() for _ in range(min(size, len(queue)))])

    def _hand_out(self, index: int, replica: Replica, batch: Batch) -> None:
        replica.batches[batch] = None
        fresh = [t for t in batch.tasks if not t.ended and t.problem.id not in self.dropped]
        batch.undecided = len(fresh)
        if not fresh:
            self._later(0, self._leave, index, replica, batch)
        elif replica.ready_at == math.inf:
            replica.ready_at = self.now + replica.model.speed.start_s
            self._later(replica.model.speed.start_s, self._pump, index, replica)
        for task in fresh:
            replica.batch_of[task.problem.id] = batch
            self._admit(index, replica, task, task.verdicts)

    def _admit(
        self, index: int, replica: Replica, task: ProblemTask, done: dict[int, Verdict]
    ) -> None:
        key = task.problem.id, index, task.stage_index
        if key not in self.rates:
            chosen = bisect(self.cumulated[index][task.stage_index], self.random.random())
            self.rates[key] = float(RATES[min(chosen, len(RATES) - 1)])
        replica.scheduler.admit(task, done)
        self._decide(index, replica, task)

    def _decide(self, index: int, replica: Replica, task: ProblemTask) -> None:
        decision = replica.scheduler.decision(task)
        if decision is None:
            return
        count = self.counts[index].stages[task.stage_index]
        count.problems += 1
        count.kept += decision == Decision.KEEP
        for attempt in task.in_flight:
            replica.abort(task, attempt)
        gate = self.passes[index].stages[task.stage_index].gate
        if replica.scheduler.advance(task, decision):
            self._admit(index, replica, task, {})
            return
        if gate and decision != Decision.KEEP:
            self.dropped.add(task.problem.id)
        batch = replica.batch_of.pop(task.problem.id)
        batch.undecided -= 1
        if not batch.undecided:
            flush = self.passes[index].sampler.flush_s
            self._later(flush - self.now % flush, self._leave, index, replica, batch)

    def _leave(self, index: int, replica: Replica, batch: Batch) -> None:
        if batch not in replica.batches:
            return  # its node went meanwhile
        del replica.batches[batch]
        self.left[index] += len(batch.tasks)
        self.counts[index].end = self.now
        if index + 1 < len(self.passes):
            for task in batch.tasks:
                self.queues[index + 1].append(self._task(int(task.problem.id)))
            if not self.overlap and self.left[index] == self.problems:
                self._begin(index + 1)
            self._feed(index + 1)
        else:
            self._count(batch.tasks)
        self._feed(index)

    def _count(self, tasks: list[ProblemTask]) -> None:
        self.kept += sum(task.problem.id not in self.dropped for task in tasks)
        if self.target and self.ends == math.inf:
            for task in tasks:
                self.target.add(task.order, task.problem.id not in self.dropped)
            if self.target.cutoff() is not None:
                self.ends = self.now + HALT_S

    # Attempts in the engine.

    def _pump(self, index: int, replica: Replica) -> None:
        """Starts attempts while slots are free."""
        if replica.ready_at > self.now:
            return
        replica.advance(self.now)
        model = self.passes[index]
        slots = model.allocation.engine.max_num_seqs + max(
            1, model.allocation.engine.max_num_seqs // 16
        )
        waited = self.now - replica.idle_since
        idle = replica.idle_since >= 0 and waited > SPECULATE_AFTER_S - 1e-6
        while len(replica.open) < slots:
            chosen = replica.scheduler.next_attempt(idle)
            if chosen is None:
                if replica.idle_since < 0:
                    replica.idle_since = self.now
                    if model.sampler.speculative_share:
                        self._later(SPECULATE_AFTER_S, self._pump, index, replica)
                break
            replica.idle_since = -1.0
            replica.start(self._completion(index, *chosen))
        replica.alarm = self.number + 1
        if (delay := replica.until_next()) < math.inf:
            self._later(delay, self._ended, index, replica, replica.alarm)

    def _completion(self, index: int, task: ProblemTask, attempt: int) -> Completion:
        key = task.problem.id, index, task.stage_index
        if saved := self.partials.pop((*key, attempt), None):
            saved.task = task
            return saved
        correct = self.random.random() < self.rates[key]
        tokens = self.random.choice(self.lengths[index][task.stage_index][correct])
        return Completion(task, attempt, task.stage_index, tokens, correct)

    def _ended(self, index: int, replica: Replica, alarm: int) -> None:
        if alarm != replica.alarm:
            return
        replica.advance(self.now)
        while completion := replica.next_ended():
            count = self.counts[index].stages[completion.stage]
            count.attempts += 1
            count.tokens += completion.tokens
            self.spent.append((count, int(completion.task.problem.id), completion.tokens))
            verdict = Verdict.CORRECT if completion.correct else Verdict.WRONG
            replica.scheduler.finish(completion.task, completion.attempt, verdict)
            self._decide(index, replica, completion.task)
        self._pump(index, replica)

    # Nodes that go.

    def _preempt_later(self, index: int) -> None:
        model = self.passes[index]
        rate = math.ceil(model.allocation.nodes) * model.allocation.node.preemptions_per_hour / 3600
        self._later(self.random.expovariate(rate), self._preempted, index)

    def _preempted(self, index: int) -> None:
        """A node goes with its replicas: what is logged or saved stays."""
        if self.left[index] == self.problems:
            return
        self._preempt_later(index)
        model, count, replicas = self.passes[index], self.counts[index], self.replicas[index]
        count.preemptions += 1
        size = max(1, math.floor(model.allocation.per_node))
        first = size * self.random.randrange(math.ceil(model.replicas / size))
        for number in range(first, min(first + size, model.replicas)):
            self._take_away(index, replicas[number])
            replicas[number] = Replica(model, self.now + model.allocation.node.start_s)
        self._later(model.allocation.node.start_s, self._feed, index)
        self._feed(index)

    def _take_away(self, index: int, replica: Replica) -> None:
        replica.advance(self.now)
        count = self.counts[index]
        count.decoded += replica.decoded
        count.speculative += sum(c.speculative for c in replica.scheduler.counts)
        for completion in replica.open.values():
            if completion.end is not None:
                completion.done = completion.tokens - max(0.0, completion.end - replica.clock)
                completion.end = None
            if completion.done >= (replica.model.sampler.partial_tokens or math.inf):
                count.saved += 1
                task = completion.task
                key = task.problem.id, index, completion.stage, completion.attempt
                self.partials[key] = completion
            else:
                count.lost += 1
                count.lost_tokens += completion.done
        for batch in replica.batches:
            for task in batch.tasks:
                task.in_flight = {}
        self.returned[index].extend(replica.batches)
        replica.batches, replica.ready_at, replica.alarm = {}, math.inf, -1
