"""What the samplers, the progress view and the driver of one job know together."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from limo_ray.sampling.ray_metrics import SILENT_S, RayMetrics


@dataclass(kw_only=True, slots=True)
class Instructions:
    """What the job wants of its samplers."""

    halt: bool = False
    """Stop: the job has what it wants, or was interrupted."""
    resumable: bool = False
    """The job will be resumed: unfinished completions are worth saving."""
    stopped_groups: set[str] = field(default_factory=set)
    """Groups of problems that have enough keepers."""
    dollars: float = 0.0
    """What the job's paid attempts have cost so far."""


class Coordinator:
    """Shared knowledge of one job, as a Ray actor: progress, retries, and instructions to stop."""

    def __init__(self, unused: object = None) -> None:
        self.indexes: dict[str, list[Any]] = {}
        self.stats: dict[str, dict[str, Any]] = {}
        self.claims: set[bytes] = set()
        self.instructions = Instructions()
        self.dollars_before = 0.0
        self.metrics = RayMetrics()

    def offer_index(self, fingerprint: str, index: list[Any]) -> None:
        """Keeps a log's index for the samplers: one reference, so that nodes share the arrays."""
        self.indexes[fingerprint] = index

    def index(self, fingerprint: str) -> list[Any]:
        return self.indexes.get(fingerprint, [])

    def claim(self, key: str) -> bool:
        """True when a batch was handed out before: the sampler that had it is dead."""
        short = hashlib.blake2b(key.encode(), digest_size=8).digest()
        again = short in self.claims
        self.claims.add(short)
        return again

    def report(self, worker: str, stats: dict[str, Any]) -> Instructions:
        """Takes a sampler's running totals; returns what the job wants of it."""
        before, after = self.stats.get(worker), stats | {"at": time.time()}
        self.stats[worker] = after
        self.metrics.update(before, after, self.stats)
        self.instructions.dollars = self.dollars_before + sum(
            each["dollars"] for each in self.stats.values()
        )
        if stats["capped"]:
            self._stop_at_cap()
        return self.instructions

    def set_dollars_before(self, dollars: float) -> None:
        """What the logged attempts had cost when the job began."""
        self.dollars_before = dollars

    def _stop_at_cap(self) -> None:
        """Stops the job, once no sampler waits for answers that are paid for already."""
        alive = [each for each in self.stats.values() if each["at"] > time.time() - SILENT_S]
        if not any(each["paid"] and each["open"] for each in alive):
            self.interrupt()

    def stop(self, groups: set[str], halt: bool) -> None:
        """These groups, or all, have enough keepers."""
        self.instructions.stopped_groups, self.instructions.halt = groups, halt

    def interrupt(self) -> None:
        """The job stops now and will be resumed."""
        self.instructions.halt = self.instructions.resumable = True

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return self.stats
