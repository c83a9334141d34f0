"""What a job's paid attempts cost, by the prices of the config: an estimate of the bill.

The attempt log says what was asked for, so that a resumed job knows what was spent before. Requests
that failed or were cancelled are not in it, and a provider may bill them.
"""

from dataclasses import dataclass
from typing import Any

from limo_ray.attempts.log import AttemptLog
from limo_ray.core.errors import SpendCapReached
from limo_ray.engines.api_config import ApiConfig
from limo_ray.engines.base import Completion, EngineConfig
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """Dollars of a job."""

    paid: bool
    """Whether any of its engines has a price."""
    before: float
    """That the logged attempts had cost when it began."""
    cap: float
    """0 for none."""

    def text(self, dollars: float) -> str:
        """So many dollars, and the cap."""
        return f"${dollars:,.2f} spent" + (f" of ${self.cap:,.2f}" if self.cap else "")

    def check(self, workers: dict[str, dict[str, Any]]) -> None:
        """Raises SpendCapReached when samplers stopped at the cap.

        Args:
            workers: the last reports of the job's samplers.
        """
        if any(worker.get("capped") for worker in workers.values()):
            raise SpendCapReached(
                f"spend cap reached: {self.text(self.total(workers))}. Every answer is in the "
                "attempt log: the same command with a higher sampler.spend_cap goes on"
            )

    def total(self, workers: dict[str, dict[str, Any]]) -> float:
        """Dollars so far, those before the job included."""
        return sum((float(worker.get("dollars", 0)) for worker in workers.values()), self.before)


@dataclass(slots=True)
class SpendBudget:
    """One sampler's view of the job's spend cap. Pure."""

    api: ApiConfig
    """Of the sampler's engine: its prices."""
    cap: float
    """0 for none."""
    spent: float = 0.0
    """Dollars that the sampler's own completions cost."""
    elsewhere: float | None = None
    """That others cost, and those before the job; None until the coordinator has told."""
    stopped: bool = False

    def add(self, completion: Completion) -> None:
        """Adds what a completion cost."""
        self.spent += self.api.dollars(completion.prompt_tokens, completion.completion_tokens)

    def allows_attempt(self) -> bool:
        """Whether another attempt may start."""
        if not self.cap or not self.api.paid:
            return True
        return self.elsewhere is not None and self.elsewhere + self.spent < self.cap

    def stops(self, waiting: bool) -> bool:
        """Whether the sampler has stopped at the cap.

        Args:
            waiting: problems wait for attempts, and none is open.
        """
        if waiting and self.elsewhere is not None and not self.allows_attempt():
            self.stopped = True
        return self.stopped


def logged_dollars(used: list[tuple[EngineConfig, Stage]], store: Store) -> dict[str, float]:
    """What the attempts in the logs of paid engines cost, by sampling fingerprint."""
    return {
        stage.fingerprint: engine.api.dollars(*AttemptLog(store, stage.fingerprint).tokens())
        for engine, stage in {stage.fingerprint: (e, stage) for e, stage in used}.values()
        if engine.api.paid
    }


def spending(used: list[tuple[EngineConfig, Stage]], store: Store, cap: float) -> Spending:
    """The spending of a job whose stages are sampled by these engines, before it begins."""
    logged = logged_dollars(used, store)
    return Spending(paid=bool(logged), before=sum(logged.values()), cap=cap)
