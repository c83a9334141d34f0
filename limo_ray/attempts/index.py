"""An index of an attempt log in memory: ten million attempts are 290 MB. Pure.

index_of_batches(record batches of a part)  -> AttemptIndex, in the part's order
merge_indexes(indexes of parts, in order)   -> AttemptIndex, sorted
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.core.records import Verdict

VERDICTS = list(Verdict)
COLUMNS = ("problem_id", "index", "verdict", "judge")
DICTIONARIES = ("problem_id", "verdict", "judge")  # few values each: decoded once, not per row

_NIBBLES = np.full(256, 255, np.uint8)
for _value, _digit in enumerate(b"0123456789abcdef"):
    _NIBBLES[_digit] = _value


@dataclass(slots=True)
class KnownAttempts:
    """What the log has of one problem, under one judge key."""

    verdicts: dict[int, Verdict]
    """By attempt index."""
    stale: set[int]
    """Indexes of attempts that need a new verdict."""


@dataclass(slots=True)
class AttemptIndex:
    """The attempts of a log without their text: sorted arrays, 29 bytes per attempt.

    A problem id is two 64-bit numbers. Rows are sorted by the first, those of one problem stay in
    the order in which they were logged. Ray shares the arrays between the processes of a node.
    """

    high: np.ndarray  # (n,) uint64
    low: np.ndarray  # (n,) uint64
    index: np.ndarray  # (n,) int32
    verdict: np.ndarray  # (n,) uint8, an index into VERDICTS
    judge: np.ndarray  # (n,) uint64
    parts: frozenset[str] = field(default_factory=frozenset)
    """Names of the log's parts that it was made from."""

    def __len__(self) -> int:
        return len(self.high)

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.high, self.low, self.index, self.verdict, self.judge

    def known(self, problem_id: str, judge: str) -> KnownAttempts:
        """What is logged of a problem: of each attempt the first row with this judge key counts.

        A row whose verifier failed (ERROR) counts only until a later one has a verdict.

        Args:
            problem_id: 32 hex digits.
            judge: the judge key that verdicts must have, 16 hex digits.
        """
        wanted = int(judge, 16)
        verdicts: dict[int, Verdict] = {}
        logged: set[int] = set()
        for index, verdict, key in self._rows(problem_id):
            logged.add(index)
            if key == wanted and verdicts.get(index, Verdict.ERROR) is Verdict.ERROR:
                verdicts[index] = VERDICTS[verdict]
        sound = {index for index, verdict in verdicts.items() if verdict is not Verdict.ERROR}
        return KnownAttempts(verdicts, logged - sound)

    def logged(self, problem_id: str) -> set[int]:
        """Indexes of all attempts logged for a problem, whatever their judge keys."""
        return {index for index, _, _ in self._rows(problem_id)}

    def _rows(self, problem_id: str) -> Iterator[tuple[int, int, int]]:
        """(attempt index, index into VERDICTS, judge key) of a problem's rows."""
        high, low = int(problem_id[:16], 16), int(problem_id[16:], 16)
        start = np.searchsorted(self.high, np.uint64(high), side="left")
        end = np.searchsorted(self.high, np.uint64(high), side="right")
        rows = [column[start:end].tolist() for column in self.arrays()[1:]]
        for its_low, *row in zip(*rows, strict=True):
            if its_low == low:
                yield tuple(row)

    def maybe_stale(self, high: np.ndarray, judge: np.ndarray) -> np.ndarray:
        """Which of some problems may have stale attempts: `known` tells for each of those.

        Args:
            high: (m,) first halves of their ids, uint64, sorted.
            judge: (m,) their judge keys, uint64.

        Returns:
            (m,) bool: the log has a row under another key, or one whose checker failed.
        """
        found = np.zeros(len(high), bool)
        if not len(high) or not len(self):
            return found
        for start in range(0, len(self), 1 << 20):  # a slice at a time: no arrays of the log's size
            rows = slice(start, start + (1 << 20))
            problem = np.searchsorted(high, self.high[rows], side="right") - 1
            asked = (problem >= 0) & (high[problem] == self.high[rows])
            failed = self.verdict[rows] == VERDICTS.index(Verdict.ERROR)
            stale = asked & ((judge[problem] != self.judge[rows]) | failed)
            found[problem[stale]] = True
        return found

    def with_rows_of(self, fresh: "AttemptIndex") -> "AttemptIndex":
        """This index and the rows of one of parts that were logged later."""
        parts = self.parts | fresh.parts
        if not len(fresh):
            return replace(self, parts=parts)
        positions = np.searchsorted(self.high, fresh.high, side="right")
        both = zip(self.arrays(), fresh.arrays(), strict=True)
        high, low, index, verdict, judge = (np.insert(old, positions, new) for old, new in both)
        return AttemptIndex(high, low, index, verdict, judge, parts)


def hex_to_uint64(values: pa.Array, width: int) -> np.ndarray:
    """Hex strings of 16 * width digits as a (n, width) array of uint64.

    Raises:
        ValueError: a string of another length, or with another character.
    """
    values = values.cast(pa.string())
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset :][: len(values) + 1]
    digits = 16 * width
    if len(values) and (values.null_count or np.any(np.diff(offsets) != digits)):
        raise ValueError(f"not all of {digits} hex digits")
    if not len(values):
        return np.zeros((0, width), np.uint64)
    text = np.frombuffer(values.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    nibbles = _NIBBLES[text].reshape(-1, 2)
    if nibbles.max() > 15:
        raise ValueError(f"not all of {digits} hex digits")
    whole = (nibbles[:, 0] << 4 | nibbles[:, 1]).view(">u8").astype(np.uint64)
    return whole.reshape(-1, width)


def _by_value(column: pa.Array, decode: Callable[[pa.Array], np.ndarray]) -> np.ndarray:
    """decode(values) for a column, called with its different values alone."""
    if not isinstance(column, pa.DictionaryArray):
        column = pc.dictionary_encode(column)
    decoded: np.ndarray = decode(column.dictionary)[column.indices.to_numpy()]
    return decoded


def _verdicts(values: pa.Array) -> np.ndarray:
    return np.array([VERDICTS.index(Verdict(value)) for value in values.to_pylist()], np.uint8)


def index_of_batches(batches: Iterable[pa.RecordBatch]) -> AttemptIndex:
    """The index of one part, in the part's order: `merge_indexes` sorts it.

    Args:
        batches: the columns COLUMNS.

    Raises:
        ValueError: a text that is no id, judge key or verdict.
    """
    found = [
        (
            _by_value(batch["problem_id"], lambda values: hex_to_uint64(values, 2)),
            batch["index"].to_numpy().astype(np.int32),
            _by_value(batch["verdict"], _verdicts),
            _by_value(batch["judge"], lambda values: hex_to_uint64(values, 1))[:, 0],
        )
        for batch in batches
        if batch.num_rows
    ]
    if not found:
        return merge_indexes([])
    ids, index, verdict, judge = (np.concatenate(column) for column in zip(*found, strict=True))
    return AttemptIndex(ids[:, 0].copy(), ids[:, 1].copy(), index, verdict, judge)


def merge_indexes(indexes: list[AttemptIndex], parts: Iterable[str] = ()) -> AttemptIndex:
    """One sorted index of several, in their order.

    It empties the list as it goes, so that the rows are in memory twice, never three times.

    Args:
        parts: names of the log's parts that they were made from.
    """
    kinds = (np.uint64, np.uint64, np.int32, np.uint8, np.uint64)
    size = sum(map(len, indexes))
    whole = [np.empty(size, kind) for kind in kinds]
    end = size
    while indexes:
        last = indexes.pop()
        for column, values in zip(whole, last.arrays(), strict=True):
            column[end - len(last) : end] = values
        end -= len(last)
    order = np.argsort(whole[0], kind="stable")
    for number, column in enumerate(whole):
        whole[number] = column[order]
    high, low, index, verdict, judge = whole
    return AttemptIndex(high, low, index, verdict, judge, frozenset(parts))
