"""Progress of a sampling job, from its coordinator: for the terminal and for `progress.json`."""

import time
from collections import Counter, deque
from typing import Any, Self

import ray
from rich.table import Table

from limo_ray.core.console import LiveView
from limo_ray.runs import heartbeat
from limo_ray.sampling.ray_metrics import SILENT_S, levels
from limo_ray.sampling.spending import Spending
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import Decision

RECENT_S = 180.0  # rates are averages over this time
IDLE = ["0", "0", "0", "0", "-", "0", "0"]


class Progress:
    """Follows the samplers of one job through its coordinator; a context manager.

    Ctrl-C inside of it stops the samplers, and they write what they have.
    """

    def __init__(
        self,
        coordinator: Any,
        stages: list[Stage],
        total: int,
        wanted: int = 0,
        spending: Spending | None = None,
    ) -> None:
        """`total` problems are in the pool; `wanted` keepers end the job (0: all are sampled)."""
        self.coordinator = coordinator
        self.stages = stages
        self.total = total
        self.wanted = wanted
        self.spending = spending if spending and spending.paid else None
        self.started = time.time()
        self.workers: dict[str, dict[str, Any]] = {}
        self.seen: deque[tuple[float, int, int]] = deque()  # time, attempts, tokens
        self._view = LiveView(refresh=self._fetch, table=self._table, line=self.line)

    def __enter__(self) -> Self:
        self._view.start()
        heartbeat.tell("sampling", self.facts)
        return self

    def __exit__(self, kind: type | None, *exc: object) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self.interrupt()
        finally:
            self._view.stop()
        if kind is None:
            last = self.facts()
            heartbeat.tell("sampling", lambda: last)

    def run(self, data: Any) -> None:
        """Runs a job (a ray.data.Dataset) whose rows nobody needs: its attempts are in the log.

        Raises SpendCapReached as `check_cap` does.
        """
        for _ in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            pass
        self.check_cap()

    def check_cap(self) -> None:
        """Raises SpendCapReached when the job's samplers stopped at its spend cap."""
        self._fetch()
        if self.spending:
            self.spending.check(self.workers)

    def _spent(self) -> str:
        if not self.spending:
            return ""
        return f", {self.spending.text(self.spending.total(self.workers))}"

    def wait_for_halt(self, timeout_s: float) -> None:
        """Returns when every sampler has stopped and written its attempts, or has died."""
        deadline = time.time() + timeout_s
        while time.time() < deadline:
            self._fetch()
            silent = time.time() - SILENT_S
            if all(worker["halted"] or worker["at"] < silent for worker in self.workers.values()):
                return
            time.sleep(0.2)

    def interrupt(self) -> None:
        """Stops the samplers of a job that will be resumed; returns when they have written all."""
        ray.get(self.coordinator.interrupt.remote())
        self.wait_for_halt(timeout_s=15)

    def last(self) -> dict[str, Any]:
        """The final totals by stage name."""
        self._fetch()
        return self.totals()

    def facts(self) -> dict[str, Any]:
        """The state as plain values for `progress.json`; rates are of the last minutes."""
        self._fetch()
        totals = self.totals()
        now = time.time()
        attempts = sum(sum(total["verdicts"].values()) for total in totals.values())
        tokens = sum(total["tokens"].get("completion", 0) for total in totals.values())
        self.seen.append((now, attempts, tokens))
        while now - self.seen[0][0] > RECENT_S:
            self.seen.popleft()
        since, first_attempts, first_tokens = self.seen[0]
        spent = max(1.0, now - since)
        decided, kept = self._decided()
        return {
            "problems": self.total, "wanted": self.wanted, "decided": decided, "kept": kept,
            "left": self._left(decided, kept), **levels(self.workers, now),
            "attempts_per_s": (attempts - first_attempts) / spent,
            "tokens_per_s": (tokens - first_tokens) / spent,
            **self._dollars(),
            "stages": [
                {"name": stage.name, "fingerprint": stage.fingerprint, "budget": stage.rule.budget,
                 **totals[stage.name]}
                for stage in self.stages
            ],
        }  # fmt: skip

    def _dollars(self) -> dict[str, float]:
        if not self.spending:
            return {}
        return {"dollars": self.spending.total(self.workers), "spend_cap": self.spending.cap}

    def totals(self) -> dict[str, Any]:
        """Sums over all samplers, by stage name."""
        result: dict[str, Any] = {}
        for stage in self.stages:
            sums: Counter[str] = Counter()
            nested: dict[str, Counter[str]] = {
                name: Counter() for name in ("verdicts", "priors", "tokens", "decisions")
            }
            for worker in self.workers.values():
                for name, value in worker["stages"].get(stage.name, {}).items():
                    if isinstance(value, dict):
                        nested[name].update(value)
                    else:
                        sums[name] += value
            result[stage.name] = {**sums, **{name: dict(c) for name, c in nested.items()}}
        return result

    def _fetch(self) -> None:
        self.workers = ray.get(self.coordinator.snapshot.remote())

    def rows(self) -> list[list[str]]:
        """One row per stage, for the table and the lines alike."""
        rows = []
        for stage, total in zip(self.stages, self.totals().values(), strict=True):
            decisions = total["decisions"]
            decided = sum(decisions.values())
            attempts = total.get("needed", 0) + total.get("speculative", 0)
            used = attempts + total.get("reused", 0)
            full = decided * stage.rule.budget
            saved = f"{1 - used / full:.0%}" if decided and full > used else "-"
            rows.append(
                [
                    stage.name,
                    f"{decided:,}",
                    f"{decisions.get('keep', 0):,}",
                    f"{attempts:,}",
                    f"{total.get('reused', 0):,}",
                    saved,
                    f"{total['verdicts'].get('correct', 0):,}",
                    f"{total['tokens'].get('completion', 0):,}",
                ]
            )
        return rows

    def head(self) -> str:
        goal = f" of {self.wanted:,} wanted" if self.wanted else ""
        ended, kept = self._decided()
        return (
            f"{ended:,} of {self.total:,} problems decided, {kept:,} kept{goal}; "
            f"{self._engines()}, {self._left(ended, kept)}{self._spent()}"
        )

    def _engines(self) -> str:
        """How many run, and how fast they are together."""
        silent = time.time() - SILENT_S
        engines = sum(w["engine"] and w["at"] >= silent for w in self.workers.values())
        seconds = max((worker["seconds"] for worker in self.workers.values()), default=0.0)
        tokens = sum(total["tokens"].get("completion", 0) for total in self.totals().values())
        speed = f"{tokens / seconds:,.0f} tokens/s" if seconds > 1 else "engines starting"
        return f"{engines} engine(s), {speed}"

    def _decided(self) -> tuple[int, int]:
        """Problems that a stage dropped or the last gate kept, and those kept.

        A problem can count twice: another sampler decides again what a dead one had decided.
        """
        totals = self.totals()
        gates = [stage for stage in self.stages if stage.gate]
        dropped = kept = 0
        for stage in gates:
            for decision, count in totals[stage.name]["decisions"].items():
                if decision == Decision.KEEP:
                    kept += count if stage.decides == gates[-1].decides else 0
                elif not (stage.completed and decision == Decision.UNDECIDED):
                    dropped += count
        return min(self.total, dropped + kept), kept

    def _left(self, ended: int, kept: int) -> str:
        """Time left at the pace so far; unknown before 2 % are done."""
        share = kept / self.wanted if self.wanted else ended / max(1, self.total)
        spent = time.time() - self.started
        if share < 0.02:
            return "time left unknown"
        minutes = max(0.0, spent / min(1.0, share) - spent) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    COLUMNS: tuple[str, ...] = (
        "stage",
        "decided",
        "kept",
        "attempts",
        "from log",
        "saved",
        "correct",
        "tokens",
    )

    def line(self) -> str:
        stages = []
        for row in self.rows():
            if row[1:] == IDLE:
                continue
            named = zip(self.COLUMNS[1:], row[1:], strict=True)
            stages.append(f"{row[0]}: " + ", ".join(f"{value} {name}" for name, value in named))
        return " | ".join([f"[{time.time() - self.started:6.0f} s] {self.head()}", *stages])

    def _table(self) -> Table:
        table = Table(title=self.head(), title_justify="left")
        for name in self.COLUMNS:
            table.add_column(name, justify="left" if name == self.COLUMNS[0] else "right")
        for row in self.rows():
            table.add_row(*row)
        return table
