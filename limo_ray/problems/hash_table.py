"""Many 64-bit hashes looked up at once among those of the benchmarks: nearly none is there."""

from dataclasses import dataclass

import numpy as np

_BITS = 22  # of the table that rules most hashes out


@dataclass(frozen=True, slots=True)
class HashTable:
    """Hashes to values, with a table of bits before them: it answers nearly all queries."""

    keys: np.ndarray  # (m,) uint64, sorted
    values: np.ndarray  # (m, ...) int64
    bits: np.ndarray  # (2^_BITS,) bool

    @classmethod
    def of(cls, keys: np.ndarray, values: np.ndarray) -> "HashTable":
        order = np.argsort(keys, kind="stable")
        bits = np.zeros(1 << _BITS, bool)
        bits[keys >> np.uint64(64 - _BITS)] = True
        return cls(keys[order], values[order], bits)

    def hits(self, queries: np.ndarray) -> np.ndarray:
        """Which of the queries are among the keys, as positions; hash 0 never is."""
        maybe = np.flatnonzero(self.bits[queries >> np.uint64(64 - _BITS)])
        if not len(self.keys):
            return maybe[:0]
        nearest = np.searchsorted(self.keys, queries[maybe])
        nearest[nearest == len(self.keys)] = 0
        return maybe[(self.keys[nearest] == queries[maybe]) & (queries[maybe] != 0)]

    def get(self, query: int) -> np.ndarray:
        """All values of one key."""
        begin = np.searchsorted(self.keys, np.uint64(query), "left")
        return self.values[begin : np.searchsorted(self.keys, np.uint64(query), "right")]
