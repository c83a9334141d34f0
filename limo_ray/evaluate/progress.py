"""How far an evaluation is: attempts instead of problems, since each takes its whole budget."""

from typing import Any

from limo_ray.sampling.progress import Progress


class EvaluationProgress(Progress):
    """The samplers' progress, counted in attempts."""

    COLUMNS = ("protocol", "items", "attempts", "from log", "correct", "tokens")

    def facts(self) -> dict[str, Any]:
        self.total = self._budget()
        found = super().facts()
        return found | {"attempts": found.pop("decided"), "of": found.pop("problems")}

    def rows(self) -> list[list[str]]:
        found = []
        for stage, total in zip(self.stages, self.totals().values(), strict=True):
            reused = total.get("reused", 0)
            done = sum(total["verdicts"].values()) + reused
            found.append([
                stage.name, f"{sum(total['decisions'].values()):,} of {len(stage.only):,}",
                f"{done:,}", f"{reused:,}",
                f"{total['verdicts'].get('correct', 0) + total['priors'].get('correct', 0):,}",
                f"{total['tokens'].get('completion', 0):,}",
            ])  # fmt: skip
        return found

    def head(self) -> str:
        self.total = self._budget()
        done, _ = self._decided()
        left = self._left(done, 0)
        return f"{done:,} of {self.total:,} attempts, {self._engines()}, {left}{self._spent()}"

    def _budget(self) -> int:
        return sum(stage.rule.budget * len(stage.only) for stage in self.stages)

    def _decided(self) -> tuple[int, int]:
        """Attempts that are there, and no count of kept problems."""
        done = sum(
            sum(total["verdicts"].values()) + total.get("reused", 0)
            for total in self.totals().values()
        )
        return done, 0
