"""Which attempt to start next, over many problems and stages, so that none is wasted. Pure."""

import heapq
from dataclasses import dataclass, field

from limo_ray.core.records import Problem, Verdict
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision, StopRule


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
