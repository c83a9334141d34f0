"""When to stop drawing attempts at a problem, and which attempt to draw next. Pure, no Ray.

`StopRule` decides problems as early as logic allows and says how many attempts may be in flight
without any being in vain; `Scheduler` spends an engine's slots accordingly over many problems and
stages. `limo_ray.sampling.sampler` puts an engine, a verifier and the attempt log around it.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from limo_ray.core.records import Problem, Verdict
from limo_ray.core.records import fingerprint as hash_of
from limo_ray.engines.base import SamplingConfig


class Decision(StrEnum):
    KEEP = "keep"
    DROP_EASY = "drop_easy"
    DROP_HARD = "drop_hard"


@dataclass(kw_only=True, slots=True, unsafe_hash=True)
class StopRule:
    """Keep a problem when keep_min <= correct <= keep_max after `budget` attempts.

    Stage 1 of the paper is StopRule(budget=4, keep_min=0, keep_max=0), stage 2 is
    StopRule(budget=32, keep_min=1, keep_max=3) (arXiv 2502.03387v3, section 3.1).
    """

    budget: int = 32
    """Attempts at a problem, at the most."""
    keep_min: int = 1
    """Fewest correct attempts of a problem that is kept; 0 keeps the unsolved ones too."""
    keep_max: int = 3
    """Most correct attempts of a problem that is kept."""
    early: bool = True
    """Stop as soon as the outcome is certain; false draws the whole budget (evaluation)."""

    def check(self) -> None:
        if not 1 <= self.budget <= 4096:
            raise ValueError(f"budget: {self.budget} must be between 1 and 4096")
        if self.keep_min > self.keep_max:
            raise ValueError(f"keep_min: {self.keep_min} is larger than keep_max ({self.keep_max})")
        if self.keep_min < 0:
            raise ValueError(f"keep_min: {self.keep_min} must not be negative")
        if self.keep_max > self.budget:
            raise ValueError(f"keep_max: {self.keep_max} is larger than budget ({self.budget})")

    def decide(self, correct: int, finished: int) -> Decision | None:
        """The decision that no remaining outcome can change, or None while one could."""
        remaining = self.budget - finished
        if remaining > 0 and not self.early:
            return None
        if correct > self.keep_max:
            return Decision.DROP_EASY
        if correct + remaining < self.keep_min:
            return Decision.DROP_HARD
        if correct >= self.keep_min and correct + remaining <= self.keep_max:
            return Decision.KEEP
        return None

    def needed(self, correct: int, finished: int) -> int:
        """The fewest further outcomes after which a decision is possible; 0 when it is made."""
        return _needed(self)[finished][correct]

    def room(self, correct: int, finished: int, in_flight: int) -> int:
        """How many more attempts may start now without any of them possibly being unneeded.

        Every attempt in flight is then one that one-by-one sampling would have drawn too, in
        whatever order they end: no decision can come before all of them are in.
        """
        return max(0, self.needed(correct, finished) - in_flight)


@lru_cache(maxsize=64)
def _needed(rule: StopRule) -> list[list[int]]:
    """table[finished][correct]: one more than the nearer of the two next states, 0 if decided."""
    table = [[0] * (finished + 1) for finished in range(rule.budget + 1)]
    for finished in range(rule.budget - 1, -1, -1):
        after = table[finished + 1]
        for correct in range(finished + 1):
            if rule.decide(correct, finished) is None:
                table[finished][correct] = 1 + min(after[correct], after[correct + 1])
    return table


@dataclass(kw_only=True, slots=True)
class Stage:
    """One pass of attempts at problems: with which sampling, under which rule, in which log."""

    name: str
    rule: StopRule
    sampling: SamplingConfig
    fingerprint: str
    gate: bool = True
    """Only kept problems go on to the next stage; a teacher's stage lets all of them through."""
    only: frozenset[str] = frozenset()
    """Ids of the problems that it is for; the others pass by. Empty for all."""


def sampling_fingerprint(
    identity: str, system: str, dtype: str, max_model_len: int, sampling: SamplingConfig
) -> str:
    """Names the attempt log that draws from one distribution share: 16 hex digits.

    It covers model, weights and template (`identity`), prompt, dtype, lengths and sampling; not
    budget or keep rule, so that a change of those reuses every attempt, and not the seed.
    """
    parts = {
        "identity": identity,
        "system": system,
        "dtype": dtype,
        "max_model_len": max_model_len,
        "temperature": sampling.temperature,
        # greedy decoding is the same whatever the filters say
        "filters": [sampling.top_p, sampling.top_k, sampling.min_p] if sampling.temperature else [],
        "max_tokens": sampling.max_tokens,
        "stop": sampling.stop,
        "loop": [sampling.loop_count, sampling.loop_pattern] if sampling.loop_count else [],
    }
    return hash_of(parts)


BLOCKS_AHEAD = 500  # that wait between two steps of a pipeline, where each is a batch of problems


def portions(
    slots: int, fewest: int, most: int, total: int = 0, rules: Sequence[StopRule] = ()
) -> tuple[int, int]:
    """Problems in a batch, and batches that one sampler has at a time.

    Under a rule such as "not solved in 4" a problem has one draw at a time, and of a batch some
    problems end long before the last one: a sampler needs many problems for each of its slots. (In
    a simulation with log-normal lengths 39 % of 256 slots were idle with 3 problems for each, none
    with 8.) Large batches keep what Ray remembers of each task small. Where all `total` problems
    are fewer than that, no replica takes more than its share; and where replicas are still to come,
    none takes more than it needs, so that there is something left for them: two for each slot, or
    what fills the slots at once, if all draws are needed anyway.

    Args:
        slots: sequences that one engine decodes at once.
        fewest, most: replicas of the engine.
        total: problems, if it is known.
        rules: of the stages.
    """
    batch = max(1, min(64, slots // 4))
    if total:
        batch = min(batch, math.ceil(total / (4 * most)))
    in_flight = max(4, math.ceil(8 * slots / batch))
    if total:
        share = total / fewest
        if most > fewest:
            at_once = min((0.5 if rule.early else rule.budget for rule in rules), default=0.5)
            share = min(share, max(total / most, slots / at_once))
        in_flight = min(in_flight, max(1, math.ceil(share / batch)))
    return batch, in_flight


@dataclass(slots=True)
class Outcome:
    """What one stage came to for one problem."""

    stage: str
    decision: Decision
    correct: int
    finished: int


@dataclass(slots=True, eq=False)
class Task:
    """One problem on its way through the stages."""

    problem: Problem
    order: int
    done: dict[int, Verdict] = field(default_factory=dict)  # draw -> verdict, of this stage
    in_flight: dict[int, bool] = field(default_factory=dict)  # draw -> speculative
    stage: int = 0
    correct: int = 0
    finished: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    ended: bool = False


@dataclass(slots=True)
class Counts:
    """Attempts of one stage: `needed` would have been drawn one by one too.

    `continued` are those of them that went on from what a preempted sampler had saved.
    """

    needed: int = 0
    speculative: int = 0
    aborted: int = 0
    reused: int = 0
    continued: int = 0


class Scheduler:
    """Spends engine slots on the problems that need attempts, earliest problem first.

    `next_draw` is asked whenever a slot is free; `finish` is told of every verdict. While any
    problem has room nothing needless is drawn. When none has and the caller says that the engine
    idles, an attempt past a problem's room may be drawn: it is counted as speculative, and their
    share of all attempts stays within `speculative_share`.
    """

    def __init__(self, stages: list[Stage], speculative_share: float = 0.0) -> None:
        self.stages = stages
        self.speculative_share = speculative_share
        self.counts = [Counts() for _ in stages]
        self.active: dict[str, Task] = {}
        self._ready: list[tuple[int, int, Task]] = []
        self._admitted = 0

    def rule(self, task: Task) -> StopRule:
        return self.stages[task.stage].rule

    def stage_from(self, place: int, problem_id: str) -> int | None:
        """The first stage from `place` on that is for a problem, if there is one."""
        for number in range(place, len(self.stages)):
            only = self.stages[number].only
            if not only or problem_id in only:
                return number
        return None

    def admit(self, task: Task, prior: dict[int, Verdict]) -> None:
        """Takes a problem in, at its current stage, with what the log knows of it already."""
        self.active[task.problem.id] = task
        rule = self.rule(task)
        known = {draw: verdict for draw, verdict in sorted(prior.items()) if draw < rule.budget}
        task.done = known
        task.correct = sum(verdict == Verdict.CORRECT for verdict in known.values())
        task.finished = len(known)
        self.counts[task.stage].reused += len(known)
        self._offer(task)

    def _offer(self, task: Task) -> None:
        if self.rule(task).room(task.correct, task.finished, len(task.in_flight)) > 0:
            self._admitted += 1
            heapq.heappush(self._ready, (task.order, self._admitted, task))

    def decision(self, task: Task) -> Decision | None:
        return self.rule(task).decide(task.correct, task.finished)

    def next_draw(self, idle: bool = False) -> tuple[Task, int] | None:
        """The next (problem, draw) to start, or None. `idle`: no more problems are at hand."""
        while self._ready:
            task = self._ready[0][2]
            room = self.rule(task).room(task.correct, task.finished, len(task.in_flight))
            if task.ended or room == 0:
                heapq.heappop(self._ready)
                continue
            return task, self._start(task, speculative=False)
        if idle:
            counts = self.counts
            speculative = sum(c.speculative for c in counts)
            total = sum(c.needed + c.speculative for c in counts)
            if speculative < self.speculative_share * total:
                return self._speculate()
        return None

    def _speculate(self) -> tuple[Task, int] | None:
        """Of the problems with budget left, the one whose next attempt is likeliest needed."""
        open_tasks = [
            task
            for task in self.active.values()
            if task.finished + len(task.in_flight) < self.rule(task).budget
        ]
        if not open_tasks:
            return None
        task = max(open_tasks, key=lambda t: self.rule(t).needed(t.correct, t.finished))
        return task, self._start(task, speculative=True)

    def _start(self, task: Task, *, speculative: bool) -> int:
        draw = 0
        while draw in task.done or draw in task.in_flight:
            draw += 1
        task.in_flight[draw] = speculative
        counts = self.counts[task.stage]
        if speculative:
            counts.speculative += 1
        else:
            counts.needed += 1
        return draw

    def finish(self, task: Task, draw: int, verdict: Verdict) -> None:
        """Takes a verdict; the caller then asks for a `decision`, and calls `advance` on one."""
        del task.in_flight[draw]
        task.done[draw] = verdict
        task.finished += 1
        task.correct += verdict == Verdict.CORRECT
        if self.decision(task) is None:
            self._offer(task)

    def fail(self, task: Task, draw: int) -> None:
        """A draw that came to nothing (engine error, abort): it will be drawn again if needed."""
        if task.in_flight.pop(draw):
            self.counts[task.stage].speculative -= 1
        else:
            self.counts[task.stage].needed -= 1
        self.counts[task.stage].aborted += 1
        if not task.ended:
            self._offer(task)

    def leave(self, task: Task) -> None:
        """Gives a problem up, undecided."""
        self.active.pop(task.problem.id, None)
        task.ended = True

    def advance(self, task: Task, decision: Decision) -> bool:
        """Records the decision; True when another stage follows (`admit` it again)."""
        stage = self.stages[task.stage]
        task.outcomes.append(Outcome(stage.name, decision, task.correct, task.finished))
        del self.active[task.problem.id]
        goes_on = decision == Decision.KEEP or not stage.gate
        following = self.stage_from(task.stage + 1, task.problem.id)
        if goes_on and following is not None:
            task.stage = following
            task.in_flight = {}
            return True
        task.ended = True
        return False
