"""Which attempt to start next, over many problems and stages, so that none is wasted. Pure."""

import heapq
from dataclasses import dataclass, field

from limo_ray.core.records import Problem, Verdict
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision, StopRule


@dataclass(slots=True)
class Outcome:
    """One stage's decision on one problem, and the attempts that it took."""

    stage: str
    decision: Decision
    correct: int
    finished: int
    completed: int = 0
    """Of the finished attempts, those by a stage that completes this one."""


@dataclass(slots=True, eq=False)
class ProblemTask:
    """One problem on its way through the stages."""

    problem: Problem
    order: int
    verdicts: dict[int, Verdict] = field(default_factory=dict)  # index -> verdict, of this stage
    in_flight: dict[int, bool] = field(default_factory=dict)  # index -> speculative
    stage_index: int = 0
    correct: int = 0
    finished: int = 0
    exhausted: bool = False
    """The engine has no further attempt at it, in this stage."""
    undecided: dict[str, Outcome] = field(default_factory=dict)
    """Of earlier stages that could not decide it, by their name."""
    outcomes: list[Outcome] = field(default_factory=list)
    ended: bool = False


@dataclass(slots=True)
class Counts:
    """Attempts of one stage: one-by-one sampling would have made the `needed` ones too.

    `continued` attempts are those that went on from a saved partial completion.
    """

    needed: int = 0
    speculative: int = 0
    aborted: int = 0
    reused: int = 0
    continued: int = 0


class Scheduler:
    """Spends engine slots on the problems that need attempts, earliest problem first.

    The caller asks `next_attempt` whenever a slot is free and passes every verdict to `finish`.
    While any problem has room, only needed attempts start. When none has and the caller says that
    the engine idles, an attempt past a problem's room may start: it counts as speculative, and the
    speculative share of all attempts stays within `speculative_share`.
    """

    def __init__(self, stages: list[Stage], speculative_share: float = 0.0) -> None:
        self.stages = stages
        self.speculative_share = speculative_share
        self.counts = [Counts() for _ in stages]
        self.active: dict[str, ProblemTask] = {}
        self._ready: list[tuple[int, int, ProblemTask]] = []
        self._admitted = 0

    def rule(self, task: ProblemTask) -> StopRule:
        return self.stages[task.stage_index].rule

    def first_stage(self, start: int, task: ProblemTask) -> int | None:
        """Index of the first stage from `start` on that samples a problem; None if none does."""
        for stage_index in range(start, len(self.stages)):
            stage = self.stages[stage_index]
            wanted = not stage.only or task.problem.id in stage.only
            if wanted and (not stage.completes or stage.completes in task.undecided):
                return stage_index
        return None

    def _before(self, task: ProblemTask) -> Outcome | None:
        """What the stage that the present one completes had come to."""
        return task.undecided.get(self.stages[task.stage_index].completes)

    def admit(self, task: ProblemTask, prior: dict[int, Verdict]) -> None:
        """Adds a problem at its current stage; `prior` are the verdicts that the log has."""
        self.active[task.problem.id] = task
        rule = self.rule(task)
        before = self._before(task)
        correct, finished = (before.correct, before.finished) if before else (0, 0)
        most = rule.budget - finished
        known = {index: verdict for index, verdict in sorted(prior.items()) if index < most}
        task.verdicts = known
        task.exhausted = False
        task.correct = correct + sum(verdict == Verdict.CORRECT for verdict in known.values())
        task.finished = finished + len(known)
        self.counts[task.stage_index].reused += len(known)
        self._offer(task)

    def _room(self, task: ProblemTask) -> int:
        if task.exhausted:
            return 0
        return self.rule(task).room(task.correct, task.finished, len(task.in_flight))

    def _offer(self, task: ProblemTask) -> None:
        if self._room(task) > 0:
            self._admitted += 1
            heapq.heappush(self._ready, (task.order, self._admitted, task))

    def decision(self, task: ProblemTask) -> Decision | None:
        """The rule's decision; UNDECIDED when there is none and no attempt is left to wait for."""
        decision = self.rule(task).decide(task.correct, task.finished)
        if decision is None and task.exhausted and not task.in_flight:
            return Decision.UNDECIDED
        return decision

    def next_attempt(self, idle: bool = False) -> tuple[ProblemTask, int] | None:
        """The next (problem, attempt index) to start, or None.

        `idle`: the engine has free slots and no problem has room.
        """
        while self._ready:
            task = self._ready[0][2]
            if task.ended or self._room(task) == 0:
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

    def _speculate(self) -> tuple[ProblemTask, int] | None:
        """Starts an attempt where it is most likely needed, among the problems with budget left."""
        open_tasks = [
            task
            for task in self.active.values()
            if not task.exhausted and task.finished + len(task.in_flight) < self.rule(task).budget
        ]
        if not open_tasks:
            return None
        task = max(open_tasks, key=lambda t: self.rule(t).needed(t.correct, t.finished))
        return task, self._start(task, speculative=True)

    def _start(self, task: ProblemTask, *, speculative: bool) -> int:
        index = 0
        while index in task.verdicts or index in task.in_flight:
            index += 1
        task.in_flight[index] = speculative
        counts = self.counts[task.stage_index]
        if speculative:
            counts.speculative += 1
        else:
            counts.needed += 1
        return index

    def finish(self, task: ProblemTask, index: int, verdict: Verdict) -> None:
        """Adds a verdict. The caller then asks for the `decision` and, if any, calls `advance`."""
        del task.in_flight[index]
        task.verdicts[index] = verdict
        task.finished += 1
        task.correct += verdict == Verdict.CORRECT
        if self.decision(task) is None:
            self._offer(task)

    def give_back(self, task: ProblemTask, index: int) -> None:
        """Takes back an attempt without a verdict (engine death, cut off); it may start again."""
        self._take_back(task, index)
        self.counts[task.stage_index].aborted += 1
        task.exhausted = False  # this one is there
        if not task.ended:
            self._offer(task)

    def exhaust(self, task: ProblemTask, index: int) -> None:
        """The engine has no attempt of this number. Ask for the `decision` then, as after `finish`:
        attempts in flight may still make one."""
        self._take_back(task, index)
        task.exhausted = True

    def _take_back(self, task: ProblemTask, index: int) -> None:
        if task.in_flight.pop(index):
            self.counts[task.stage_index].speculative -= 1
        else:
            self.counts[task.stage_index].needed -= 1

    def abandon(self, task: ProblemTask) -> None:
        """Ends a problem undecided."""
        self.active.pop(task.problem.id, None)
        task.ended = True

    def advance(self, task: ProblemTask, decision: Decision) -> bool:
        """Records the decision; True when another stage follows (then `admit` it again)."""
        stage = self.stages[task.stage_index]
        before = self._before(task)
        completed = task.finished - before.finished if before else 0
        task.outcomes.append(
            Outcome(stage.decides, decision, task.correct, task.finished, completed)
        )
        del self.active[task.problem.id]
        goes_on = decision == Decision.KEEP or not stage.gate
        following = self.first_stage(task.stage_index + 1, task)
        if goes_on and following is not None:
            task.stage_index = following
            task.in_flight = {}
            return True
        task.ended = True
        return False
