"""A problem while a sampler has it, and its row afterwards."""

import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from limo_ray.sampling.scheduler import Outcome, ProblemTask
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision


@dataclass(slots=True, eq=False)
class Pending:
    """A problem that a batch waits for."""

    task: ProblemTask
    decided: "asyncio.Future[bool]"
    """False when the job stopped the problem undecided."""
    prompt: list[int] = field(default_factory=list)
    attempts: "dict[int, asyncio.Task[None]]" = field(default_factory=dict)
    """Those with the engine or the verifier, by index."""

    def decide(self, decided: bool) -> None:
        if not self.decided.done():
            self.decided.set_result(decided)

    def fail(self, error: BaseException) -> None:
        if not self.decided.done():
            self.decided.set_exception(error)

    def abort_attempts(self) -> int:
        """Returns how many there were."""
        attempts, self.attempts = self.attempts, {}
        return sum(attempt.cancel() for attempt in attempts.values())


def undecided(row: dict[str, Any]) -> dict[str, Outcome]:
    """The stages that could not decide a row (of SAMPLED), by name."""
    outcomes = [Outcome(**each) for each in json.loads(row["outcomes"] or "[]")]
    return {each.stage: each for each in outcomes if each.decision == Decision.UNDECIDED}


def update_row(row: dict[str, Any], task: ProblemTask, stages: list[Stage]) -> None:
    """Writes a task's outcomes into its row (of SAMPLED); a dropped problem loses its text.

    The outcome of a stage that was completed takes the place of the undecided one.
    """
    gates = {stage.decides: stage for stage in stages if stage.gate}
    new = {outcome.stage for outcome in task.outcomes}
    before = [each for each in json.loads(row["outcomes"] or "[]") if each["stage"] not in new]
    row["outcomes"] = json.dumps(before + [asdict(outcome) for outcome in task.outcomes])
    row["alive"] = all(
        outcome.decision == Decision.KEEP
        or (outcome.decision == Decision.UNDECIDED and gates[outcome.stage].completed)
        for outcome in task.outcomes
        if outcome.stage in gates
    )
    if not row["alive"]:
        row["question"] = row["answer"] = row["metadata"] = ""
