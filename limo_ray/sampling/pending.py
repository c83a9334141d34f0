"""A problem while a sampler has it, and its row afterwards."""

import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from limo_ray.sampling.scheduler import ProblemTask
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


def update_row(row: dict[str, Any], task: ProblemTask, stages: list[Stage]) -> None:
    """Writes a task's outcomes into its row (of SAMPLED); a dropped problem loses its text."""
    gates = {stage.name for stage in stages if stage.gate}
    row["outcomes"] = json.dumps(
        json.loads(row["outcomes"] or "[]") + [asdict(outcome) for outcome in task.outcomes]
    )
    row["alive"] = all(
        outcome.decision == Decision.KEEP for outcome in task.outcomes if outcome.stage in gates
    )
    if not row["alive"]:
        row["question"] = row["answer"] = row["metadata"] = ""
