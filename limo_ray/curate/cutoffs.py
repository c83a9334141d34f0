"""Which problems of the pool count as sampled, where sampling stopped at a target."""

from dataclasses import dataclass
from typing import Any

from limo_ray.sampling.target import Target


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Up to which order problems count as sampled: that of the last keeper its group wanted."""

    group_by: str
    """Column of the groups; empty for one group."""
    orders: dict[str, int]
    """By group; a group without one has all its problems sampled."""
    sampled: frozenset[int] | None = None
    """Orders of the problems that count, where they were not sampled in their order."""

    @classmethod
    def of(cls, targets: dict[str, Target], group_by: str) -> "Cutoffs":
        found = {group: target.cutoff() for group, target in targets.items()}
        return cls(group_by, {group: order for group, order in found.items() if order is not None})

    def group(self, row: dict[str, Any]) -> str:
        """The group of a row of the pool."""
        return str(row[self.group_by]) if self.group_by else ""

    def include(self, row: dict[str, Any]) -> bool:
        """Whether a row of the pool counts as sampled."""
        if self.sampled is not None:
            return row["order"] in self.sampled
        cutoff = self.orders.get(self.group(row))
        return cutoff is None or row["order"] <= cutoff
