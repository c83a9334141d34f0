"""A cluster at work, event by event: every attempt, on the scheduler and target of real runs.

What is real: `Scheduler` and `StopRule` say what is drawn next, `Target` when enough is kept. What
is modelled, as limo_ray.sampling.sampler and Ray Data do it: problems come to a replica in batches
and leave when their whole batch is decided and flushed; the next engine takes what left, and the
one before it is held back while `rows_ahead` wait; an idle replica speculates after a second;
replicas decode as `replica.Replica` says; a node is preempted with notice (30 s and more), so that
completions of `partial_tokens` or more go on elsewhere and shorter ones are lost, and its batches
are handed out again, with what the log knows of them.
"""

import heapq
import math
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np

from limo_ray.core.records import ORDER_BITS, Problem, Verdict
from limo_ray.plan.counts import Outcome, PassCount, StageCount
from limo_ray.plan.replica import Batch, PassModel, Replica, Request, Row, rows_ahead
from limo_ray.plan.stop_rule_math import RATES
from limo_ray.sampling.scheduler import ProblemTask
from limo_ray.sampling.stop_rule import Decision
from limo_ray.sampling.target import Target, buckets

GONE = ProblemTask(problem=Problem(id="", question="", answer="", source=""), order=0, ended=True)
"""Of all rows that a gate has dropped: they only pass by."""
SPECULATE_AFTER_S = 1.0  # as Sampler._start_attempts
HALT_S = 1.0  # until all samplers have heard that enough is kept (coordinator_link.REPORT_S)


def simulate(
    passes: list[PassModel], problems: int, *, wanted: int = 0, overlap: bool = True, seed: int = 0,
    account: bool = False,
) -> Outcome:  # fmt: skip
    """Runs a sampling job.

    Args:
        passes: with their replicas.
        problems: in the pool.
        wanted: keepers that end the job; 0 for none.
        overlap: see DifficultyConfig.overlap.
        seed: of everything.
        account: fill in StageCount.within_*, at 8 bytes per problem and stage.
    """
    return _Simulation(passes, problems, wanted, overlap, seed, account).run()


class _Simulation:
    def __init__(
        self, passes: list[PassModel], problems: int, wanted: int, overlap: bool, seed: int,
        account: bool,
    ) -> None:  # fmt: skip
        self.passes, self.problems, self.overlap = passes, problems, overlap
        self.random = Random(seed)
        rng = np.random.default_rng(seed)
        self.orders = np.sort(rng.integers(0, 1 << ORDER_BITS, problems, dtype=np.int64))
        self.target = Target(wanted, buckets(self.orders)) if wanted else None
        self.supply = self._supply()
        self.replicas = [[Replica(one) for _ in range(one.replicas)] for one in passes]
        self.counts = [PassCount([StageCount() for _ in one.stages]) for one in passes]
        self.queues: list[deque[Row]] = [deque() for _ in passes]
        self.retries: list[deque[Batch]] = [deque() for _ in passes]
        self.passed = [0] * len(passes)  # rows that left each pass
        self.partials: list[dict[tuple[int, int, int], Request]] = [{} for _ in passes]
        self.kept = 0
        self.ends = math.inf
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.numbers = 0
        self.now = 0.0
        self.cumulated = [[np.cumsum(t.rates).tolist() for t in one.truths] for one in passes]
        self.lengths = [
            [(t.other.astype(int).tolist(), t.correct.astype(int).tolist()) for t in one.truths]
            for one in passes
        ]
        self.spent = [
            np.zeros((problems, len(one.stages), 2), np.int32) if account else None
            for one in passes
        ]

    def _supply(self) -> Iterator[Row]:
        for number in range(self.problems):
            yield Row(number, self._task(number))

    def _task(self, number: int) -> ProblemTask:
        problem = Problem(id=str(number), question="", answer="", source="")
        return ProblemTask(problem=problem, order=int(self.orders[number]))

    def run(self) -> Outcome:
        for place in range(len(self.passes) if self.overlap else 1):
            self._begin(place)
        while self.events and self.passed[-1] < self.problems:
            at, _, what, args = heapq.heappop(self.events)
            self.now = min(at, self.ends)
            if at > self.ends:
                break
            what(*args)
        return self._outcome()

    def _later(self, delay: float, what: Callable[..., None], *args: Any) -> None:
        self.numbers += 1
        heapq.heappush(self.events, (self.now + delay, self.numbers, what, args))

    def _begin(self, place: int) -> None:
        """A pass asks for its nodes."""
        model = self.passes[place]
        for replica in self.replicas[place]:
            replica.up_at = self.now + model.node_start_s
        self._later(model.node_start_s, self._feed, place)
        if model.preemptions_per_hour:
            self._preempt_later(place)

    # Batches in and out.

    def _feed(self, place: int) -> None:
        """Hands batches to the replicas with the fewest, while they have room."""
        there = [each for each in self.replicas[place] if each.up_at <= self.now]
        fed = []
        while there:
            replica = min(there, key=lambda each: len(each.batches))
            if len(replica.batches) >= self.passes[place].batches or self._held_back(place):
                break
            batch = self._next_batch(place)
            if batch is None:
                self._note_dry(place)
                break
            self._hand_out(place, replica, batch)
            fed.append(replica)
        for replica in dict.fromkeys(fed):
            self._pump(place, replica)
        if fed and place and self.overlap:
            self._feed(place - 1)

    def _held_back(self, place: int) -> bool:
        """Whether so much waits for the next engine that this one gets no more."""
        if not self.overlap or place + 1 == len(self.passes):
            return False
        most = rows_ahead(self.passes[place], self.passes[place + 1])
        return len(self.queues[place + 1]) >= most

    def _all_came(self, place: int) -> bool:
        """Whether no more problems will come to a pass."""
        return place == 0 or self.passed[place - 1] == self.problems

    def _next_batch(self, place: int) -> Batch | None:
        if self.retries[place]:
            return self.retries[place].popleft()
        size = self.passes[place].batch
        if place == 0:
            rows = [row for _, row in zip(range(size), self.supply, strict=False)]
            return Batch(rows) if rows else None
        queue = self.queues[place]
        if not queue or (len(queue) < size and not self._all_came(place)):
            return None
        return Batch([queue.popleft() for _ in range(min(size, len(queue)))])

    def _note_dry(self, place: int) -> None:
        count = self.counts[place]
        if count.dry is None and self._all_came(place):
            for replica in self.replicas[place]:
                replica.advance(self.now)
            up = sum(replica.up for replica in self.replicas[place])
            count.dry = up, sum(replica.decoded for replica in self.replicas[place])

    def _hand_out(self, place: int, replica: Replica, batch: Batch) -> None:
        replica.batches.add(batch)
        fresh = [row for row in batch.rows if row.alive and not row.task.ended]
        batch.open = len(fresh)
        if not fresh:
            self._later(0, self._left, place, replica, batch)
        elif replica.ready_at == math.inf:
            start_s = self.passes[place].speed.start_s
            replica.ready_at = self.now + start_s
            self._later(start_s, self._pump, place, replica, replica.life)
        for row in fresh:
            replica.rows[row.task.problem.id] = row, batch
            self._admit(place, replica, row, row.task.verdicts)

    def _admit(self, place: int, replica: Replica, row: Row, prior: dict[int, Verdict]) -> None:
        stage = row.task.stage_index
        if stage not in row.rates:
            drawn = bisect(self.cumulated[place][stage], self.random.random())
            row.rates[stage] = float(RATES[min(drawn, len(RATES) - 1)])
        replica.scheduler.admit(row.task, prior)
        self._settle(place, replica, row)

    def _settle(self, place: int, replica: Replica, row: Row) -> None:
        """As Sampler._apply_decision: a decision, then the next stage or the end of the pass."""
        task = row.task
        decision = replica.scheduler.decision(task)
        if decision is None:
            return
        count = self.counts[place].stages[task.stage_index]
        count.problems += 1
        count.kept += decision == Decision.KEEP
        for draw in task.in_flight:
            replica.cut_off(row, draw)
        gate = self.passes[place].stages[task.stage_index].gate
        if replica.scheduler.advance(task, decision):
            self._admit(place, replica, row, {})
            return
        row.alive = decision == Decision.KEEP or not gate
        _, batch = replica.rows.pop(task.problem.id)
        batch.open -= 1
        if not batch.open:
            self._leave(place, replica, batch)

    def _leave(self, place: int, replica: Replica, batch: Batch) -> None:
        """A batch is decided: it goes on once the log has it, at the next flush."""
        flush = self.passes[place].flush_s
        self._later(flush - self.now % flush, self._left, place, replica, batch)

    def _left(self, place: int, replica: Replica, batch: Batch) -> None:
        if batch not in replica.batches:
            return  # its node was taken away meanwhile
        replica.batches.remove(batch)
        self.passed[place] += len(batch.rows)
        self.counts[place].ended = self.now
        if self.passed[place] == self.problems:
            for each in self.replicas[place]:
                each.close(self.now)
        following = place + 1
        if following < len(self.passes):
            for row in batch.rows:
                row.task = self._task(row.number) if row.alive else GONE
                row.rates = {}
            self.queues[following].extend(batch.rows)
            if not self.overlap and self.passed[place] == self.problems:
                self._begin(following)
            self._feed(following)
        else:
            self._count(batch.rows)
        self._feed(place)

    def _count(self, rows: list[Row]) -> None:
        """The driver's side, as difficulty._until_met."""
        self.kept += sum(row.alive for row in rows)
        if self.target and self.ends == math.inf:
            for row in rows:
                self.target.add(int(self.orders[row.number]), row.alive)
            if self.target.cutoff() is not None:
                self.ends = self.now + HALT_S

    # Requests in the engine.

    def _pump(self, place: int, replica: Replica, life: int = 0) -> None:
        """As Sampler._start_attempts: starts draws while slots are free."""
        if replica.ready_at > self.now or (life and life != replica.life):
            return
        replica.advance(self.now)
        model = self.passes[place]
        waited = self.now - replica.starved
        idle = replica.starved >= 0 and waited > SPECULATE_AFTER_S - 1e-6
        while len(replica.requests) < model.slots:
            chosen = replica.scheduler.next_attempt(idle)
            if chosen is None:
                if replica.starved < 0:
                    replica.starved = self.now
                    if model.speculative_share:
                        self._later(SPECULATE_AFTER_S, self._pump, place, replica, replica.life)
                break
            replica.starved = -1.0
            replica.start(self._request(place, replica, *chosen))
        replica.alarm = self.numbers + 1
        if (delay := replica.until_next()) < math.inf:
            self._later(delay, self._ended, place, replica, replica.alarm)

    def _request(self, place: int, replica: Replica, task: ProblemTask, draw: int) -> Request:
        row, _ = replica.rows[task.problem.id]
        self.counts[place].stages[task.stage_index].begun += 1
        if saved := self.partials[place].pop((row.number, task.stage_index, draw), None):
            return saved
        random = self.random.random
        correct = random() < row.rates[task.stage_index]
        lengths = self.lengths[place][task.stage_index][correct]
        return Request(row, draw, task.stage_index, lengths[int(random() * len(lengths))], correct)

    def _ended(self, place: int, replica: Replica, alarm: int) -> None:
        if alarm != replica.alarm:
            return
        replica.advance(self.now)
        while request := replica.next_ended():
            count = self.counts[place].stages[request.stage]
            count.attempts += 1
            count.tokens += request.tokens
            count.correct += request.correct
            spent = self.spent[place]
            if spent is not None:
                spent[request.row.number, request.stage] += (1, request.tokens)
            verdict = Verdict.CORRECT if request.correct else Verdict.WRONG
            replica.scheduler.finish(request.row.task, request.draw, verdict)
            self._settle(place, replica, request.row)
        self._pump(place, replica)

    # Nodes that vanish.

    def _preempt_later(self, place: int) -> None:
        model = self.passes[place]
        rate = model.nodes * model.preemptions_per_hour / 3600
        self._later(self.random.expovariate(rate), self._preempted, place)

    def _preempted(self, place: int) -> None:
        """A node goes with its replicas: what it has logged or saved stays."""
        model, count = self.passes[place], self.counts[place]
        if self.passed[place] == self.problems:
            return
        self._preempt_later(place)
        count.preemptions += 1
        size = model.together
        first = size * self.random.randrange(math.ceil(model.replicas / size))
        for replica in self.replicas[place][first : first + size]:
            replica.advance(self.now)
            for request in replica.requests.values():
                request.done = replica.decoded_of(request)
                request.end = None
                if request.done >= model.partial_tokens:
                    count.stages[request.stage].saved += 1
                    key = request.row.number, request.stage, request.draw
                    self.partials[place][key] = request
                else:
                    count.stages[request.stage].lost += 1
                    count.lost_tokens += request.done
            for batch in replica.batches:
                for row in batch.rows:
                    row.task.in_flight = {}
                self.retries[place].append(batch)
            replica.reset(self.now + model.node_start_s)
        self._later(model.node_start_s, self._feed, place)
        self._feed(place)

    def _outcome(self) -> Outcome:
        cutoff = self.target.cutoff() if self.target else None
        sampled = self.problems
        if cutoff is not None:
            sampled = int(np.searchsorted(self.orders, cutoff, side="right"))
        for place, (count, spent) in enumerate(zip(self.counts, self.spent, strict=True)):
            if self.passed[place] < self.problems:
                count.ended = self.now
            for replica in self.replicas[place]:
                replica.advance(self.now)
                replica.keep_counts()
                count.up += replica.up
                count.decoding += replica.decoding
                count.decoded += replica.decoded
                for stage, speculative in zip(count.stages, replica.speculative, strict=True):
                    stage.speculative += speculative
            if spent is not None:
                for stage, (attempts, tokens) in zip(
                    count.stages, spent[:sampled].sum(axis=0).tolist(), strict=True
                ):
                    stage.within_attempts, stage.within_tokens = attempts, tokens
        kept = self.target.wanted if self.target and cutoff is not None else self.kept
        return Outcome(self.now, self.counts, sampled, kept, cutoff is not None)
