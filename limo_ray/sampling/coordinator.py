"""What the samplers, the progress view and the driver of one job know together."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from limo_ray.sampling.ray_metrics import RayMetrics


@dataclass(kw_only=True, slots=True)
class Instructions:
    """What the job wants of its samplers."""

    halt: bool = False
    """Stop: the job has what it wants, or was interrupted."""
    resumable: bool = False
    """The job will be resumed: unfinished completions are worth saving."""
    stopped_groups: set[str] = field(default_factory=set)
    """Groups of problems that have enough keepers."""


class Coordinator:
    """Shared knowledge of one job, as a Ray actor: progress, retries, and instructions to stop."""

    def __init__(self, unused: object = None) -> None:
        self.indexes: dict[str, list[Any]] = {}
        self.stats: dict[str, dict[str, Any]] = {}
        self.claims: set[bytes] = set()
        self.instructions = Instructions()
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
        return self.instructions

    def stop(self, groups: set[str], halt: bool) -> None:
        """These groups, or all, have enough keepers."""
        self.instructions.stopped_groups, self.instructions.halt = groups, halt

    def interrupt(self) -> None:
        """The job stops now and will be resumed."""
        self.instructions.halt = self.instructions.resumable = True

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return self.stats
