"""What the samplers, the progress view and the driver of one job tell each other."""

import hashlib
import time
from typing import Any

from limo_ray.sampling.ray_metrics import Metrics


class Coordinator:
    """Shared knowledge of one job, as a Ray actor: progress, retries, and the word to stop."""

    def __init__(self) -> None:
        self.indexes: dict[str, list[Any]] = {}
        self.stats: dict[str, dict[str, Any]] = {}
        self.claims: set[bytes] = set()
        self.stopped: set[str] = set()
        self.halt = self.resumable = False
        self.metrics = Metrics()

    def offer_index(self, fingerprint: str, index: list[Any]) -> None:
        """Keeps a log's state for the samplers: one reference, so that nodes share the arrays."""
        self.indexes[fingerprint] = index

    def index(self, fingerprint: str) -> list[Any]:
        return self.indexes.get(fingerprint, [])

    def claim(self, key: str) -> bool:
        """True when a batch was handed out before: the sampler that had it is dead."""
        short = hashlib.blake2b(key.encode(), digest_size=8).digest()
        again = short in self.claims
        self.claims.add(short)
        return again

    def report(self, worker: str, stats: dict[str, Any]) -> tuple[bool, bool, set[str]]:
        """Takes a sampler's running totals; tells it whether to halt, whether the job will go on
        later from there, and the groups to leave."""
        before, after = self.stats.get(worker), stats | {"at": time.time()}
        self.stats[worker] = after
        self.metrics.update(before, after, self.stats)
        return self.halt, self.resumable, self.stopped

    def stop(self, groups: set[str], halt: bool) -> None:
        """Of these groups, or of all, there is enough."""
        self.stopped, self.halt = groups, halt

    def interrupt(self) -> None:
        """The job is stopped, and will go on later: unfinished completions are worth saving."""
        self.halt = self.resumable = True

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return self.stats
