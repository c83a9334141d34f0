"""Running totals of one sampler, as it reports them to the coordinator."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from limo_ray.core.records import Attempt, Verdict
from limo_ray.sampling.scheduler import Counts
from limo_ray.sampling.stages import Stage


@dataclass(slots=True)
class StageTotals:
    verdicts: Counter[str] = field(default_factory=Counter)
    """Of the attempts that this sampler made."""
    priors: Counter[str] = field(default_factory=Counter)
    """Verdicts that the log had."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Of prompts and completions."""
    decisions: Counter[str] = field(default_factory=Counter)


class Totals:
    def __init__(self, stages: list[Stage]) -> None:
        self.names = [stage.name for stage in stages]
        self.stages = [StageTotals() for _ in stages]
        self.verified = 0
        self.verify_seconds = 0.0  # that attempts waited for their verdict

    def add_verification(self, seconds: float) -> None:
        self.verified += 1
        self.verify_seconds += seconds

    def add_prior(self, stage_index: int, verdict: Verdict) -> None:
        self.stages[stage_index].priors[verdict] += 1

    def add_attempt(self, stage_index: int, attempt: Attempt) -> None:
        totals = self.stages[stage_index]
        totals.verdicts[attempt.verdict] += 1
        totals.tokens["prompt"] += attempt.prompt_tokens
        totals.tokens["completion"] += attempt.completion_tokens

    def by_stage(self, counts: list[Counts]) -> dict[str, dict[str, Any]]:
        """Plain values by stage name, with the scheduler's counts."""
        return {
            name: {
                **asdict(count),
                "verdicts": dict(totals.verdicts),
                "priors": dict(totals.priors),
                "tokens": dict(totals.tokens),
                "decisions": dict(totals.decisions),
            }
            for name, totals, count in zip(self.names, self.stages, counts, strict=True)
        }
