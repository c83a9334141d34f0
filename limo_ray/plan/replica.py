"""One engine replica of a simulated cluster: a real Scheduler, and sequences on a token clock.

A replica decodes all its sequences in step, so that each has one more token at every tick of one
clock; how long a tick takes depends on how many sequences there are (`Speed`). The next end is
then always the smallest clock in a heap, whatever happened to the speed meanwhile.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from limo_ray.plan.assumptions import Speed, StageTruth
from limo_ray.sampling.batching import MAX_QUEUED_BLOCKS, batch_sizes
from limo_ray.sampling.scheduler import ProblemTask, Scheduler
from limo_ray.sampling.stages import Stage


@dataclass(kw_only=True, slots=True)
class PassModel:
    """Neighbouring stages on one engine, and the replicas that the cluster has for it."""

    stages: list[Stage]
    truths: list[StageTruth]
    speed: Speed
    sequences: int
    """Decoded at once by each replica."""
    replicas: int = 1
    scale: tuple[int, int] = (1, 1)
    """The engine's min_replicas and max_replicas."""
    total: int = 0
    """Problems, where the sampler knows of them; 0 for very many."""
    per_node: float = 1.0
    """Replicas on each node; below 1 for one that spans nodes."""
    node_start_s: float = 0.0
    preemptions_per_hour: float = 0.0
    """Of each node."""
    flush_s: float = 3.0
    speculative_share: float = 0.0
    partial_tokens: float = 512
    """Of an unfinished completion that a preempted node saves; infinite if it saves none."""

    batch: int = field(init=False)
    """Problems handed to a replica together."""
    batches: int = field(init=False)
    """Batches that a replica holds at once."""

    def __post_init__(self) -> None:
        rules = [stage.rule for stage in self.stages]
        found = batch_sizes(self.sequences, *self.scale, self.total, rules)
        self.batch, self.batches = found

    @property
    def slots(self) -> int:
        """Requests that a replica has open; a few of them wait."""
        return self.sequences + max(1, self.sequences // 16)

    @property
    def nodes(self) -> int:
        """Nodes that the replicas are on."""
        return math.ceil(self.replicas / self.per_node)

    @property
    def together(self) -> int:
        """Replicas that go with a node."""
        return max(1, math.floor(self.per_node))

    @property
    def begins_s(self) -> float:
        """Seconds from asking for a node to an engine that decodes."""
        return self.node_start_s + self.speed.start_s


def rows_ahead(first: PassModel, second: PassModel) -> int:
    """Rows that wait between two engines before the first is held back: they are cut anew there."""
    return MAX_QUEUED_BLOCKS * (first.batch + second.batch)


@dataclass(slots=True, eq=False)
class Row:
    """A problem on its way through the passes."""

    number: int
    task: ProblemTask
    alive: bool = True
    rates: dict[int, float] = field(default_factory=dict)
    """Its pass rate at each stage of the present pass."""


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that come to a replica, and leave it, together."""

    rows: list[Row]
    open: int = 0


@dataclass(slots=True, eq=False)
class Request:
    row: Row
    draw: int
    stage: int
    tokens: int
    correct: bool
    done: float = 0.0
    """Tokens that it has from a node that is gone."""
    end: float | None = None
    """The clock at which it is done; None while it waits."""
    cut: bool = False


class Replica:
    def __init__(self, model: PassModel) -> None:
        self.model = model
        self.speculative = [0] * len(model.stages)
        self.up = self.decoding = self.decoded = 0.0
        """Seconds with the engine up; sequence-seconds; tokens, of finished requests or not."""
        self.life = 0
        self.reset(math.inf)

    def reset(self, up_at: float) -> None:
        """A new process, on a node that will be up at a time."""
        if self.life:
            self.keep_counts()
        self.life += 1
        self.up_at = up_at
        self.ready_at = math.inf  # of the engine, which starts with the first draw
        self.scheduler = Scheduler(self.model.stages, self.model.speculative_share)
        self.rows: dict[str, tuple[Row, Batch]] = {}  # by problem id, undecided
        self.batches: set[Batch] = set()
        self.requests: dict[tuple[int, int], Request] = {}  # by row and draw
        self.running: list[tuple[float, int, Request]] = []  # heap
        self.active = 0
        self.waiting: deque[Request] = deque()
        self.clock = self.at = 0.0
        self.started = 0
        self.starved = -1.0  # since when there was nothing to draw; -1 for not
        self.alarm = 0

    def keep_counts(self) -> None:
        """Adds the scheduler's counts to the replica's own."""
        for place, counts in enumerate(self.scheduler.counts):
            self.speculative[place] += counts.speculative

    def advance(self, now: float) -> None:
        """Decodes until now."""
        if self.ready_at > now:
            return
        spent = now - max(self.at, self.ready_at)
        self.at = now
        if spent <= 0:
            return
        if self.batches:  # else Ray Data ends it, down to min_replicas
            self.up += spent
        if self.active:
            ticks = spent / self.model.speed.step(self.active)
            self.clock += ticks
            self.decoded += ticks * self.active
            self.decoding += spent * self.active

    def start(self, request: Request) -> None:
        self.requests[request.row.number, request.draw] = request
        if self.active < self.model.sequences:
            self._decode(request)
        else:
            self.waiting.append(request)

    def _decode(self, request: Request) -> None:
        request.end = self.clock + request.tokens - request.done
        self.active += 1
        self.started += 1
        heapq.heappush(self.running, (request.end, self.started, request))

    def cut_off(self, row: Row, draw: int) -> None:
        request = self.requests.pop((row.number, draw))
        request.cut = True
        if request.end is None:
            self.waiting.remove(request)
        else:
            self.active -= 1
            self.refill()

    def decoded_of(self, request: Request) -> float:
        """Tokens of a request by now."""
        if request.end is None:
            return request.done
        return request.tokens - max(0.0, request.end - self.clock)

    def refill(self) -> None:
        while self.waiting and self.active < self.model.sequences:
            self._decode(self.waiting.popleft())

    def until_next(self) -> float:
        """Seconds from the last `advance` to the next end; infinite if nothing runs."""
        while self.running and self.running[0][2].cut:
            heapq.heappop(self.running)
        if not self.running:
            return math.inf
        return max(0.0, self.running[0][0] - self.clock) * self.model.speed.step(self.active)

    def next_ended(self) -> Request | None:
        """A request that is done by now, if there is one; another takes its place."""
        while self.running and self.running[0][0] <= self.clock + 1e-6:
            request = heapq.heappop(self.running)[2]
            if not request.cut:
                self.active -= 1
                del self.requests[request.row.number, request.draw]
                self.refill()
                return request
        return None

    def close(self, now: float) -> None:
        """The pass is done: the engine is shut down."""
        self.advance(now)
        self.up_at = self.ready_at = math.inf
