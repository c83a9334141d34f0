"""The rows that a curation chooses from: kept problems and their chains. Plain values."""

import json
from dataclasses import dataclass, field

from limo_ray.core.records import Problem, majority_gold, strong_counts


@dataclass(kw_only=True, slots=True)
class KeptProblem(Problem):
    """A problem that difficulty sampling kept."""

    file: str
    line: int
    order: int
    """Its position in the seeded order."""
    outcomes: str
    """Of the stages, as JSON: a list of stage, correct, finished, decision."""

    def pass_rate(self) -> str:
        """correct/finished of the strong stage, as a text: it is a count, not an estimate."""
        counts = strong_counts(self.outcomes)
        return f"{counts[0]}/{counts[1]}" if counts else ""

    def gold(self) -> str:
        """Where its gold answer is from: the source, or the majority of so many attempts."""
        votes = majority_gold(self.metadata)
        return f"majority {votes['votes']}/{votes['attempts']}" if votes else "source"

    def group(self, group_by: str) -> str:
        """Its group for balanced selection (see SelectionConfig.group_by)."""
        column, _, key = group_by.partition(".")
        if not key:
            return str(getattr(self, column))
        known = self.annotations() if column == "annotations" else json.loads(self.metadata or "{}")
        return str(known.get(key))

    def annotations(self) -> dict[str, str]:
        """What a model replied about it, by the annotation's name."""
        found: dict[str, str] = json.loads(self.metadata or "{}").get("annotations", {})
        return found


@dataclass(kw_only=True, slots=True)
class Chain:
    """An attempt at a kept problem that can become an example."""

    problem_id: str
    teacher: str
    index: int
    """Of the attempt."""
    solution: str
    tokens: int
    rating: float | None = None
    """A model's, 1 to 10; None where none was asked or its reply could not be parsed."""
    group: str = ""
    """Of its problem, for balanced selection."""
    scores: dict[str, float] = field(default_factory=dict)
    """The columns of `quality.score`."""

    @property
    def score(self) -> float:
        """The weighted sum of the criteria."""
        return self.scores["score"]
