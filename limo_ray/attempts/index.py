"""The state of an attempt log, as sorted arrays: what ten million attempts come to in 290 MB. Pure.

piece(record batches of a part)     -> arrays of 29 bytes an attempt, no text
assemble(pieces in their order)     -> AttemptIndex
"""

from collections.abc import Callable, Iterable
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
    """What the log knows of one problem: verdicts by draw, and draws that want a new verdict."""

    verdicts: dict[int, Verdict]
    stale: set[int]


@dataclass(slots=True)
class AttemptIndex:
    """The state of an attempt log: sorted arrays, 29 bytes per attempt, shared between processes.

    A problem id is two 64-bit halves; rows are sorted by the first, those of one problem in the
    order of their logging.
    """

    high: np.ndarray  # (n,) uint64
    low: np.ndarray  # (n,) uint64
    index: np.ndarray  # (n,) int32
    verdict: np.ndarray  # (n,) uint8, a place in VERDICTS
    judge: np.ndarray  # (n,) uint64
    parts: frozenset[str] = field(default_factory=frozenset)
    """Names of the log's parts that it has read."""

    def __len__(self) -> int:
        return len(self.high)

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.high, self.low, self.index, self.verdict, self.judge

    def known(self, problem_id: str, judge: str) -> KnownAttempts:
        """The attempts logged for a problem: of each draw the first with this judge key counts.

        One whose checker failed (ERROR) counts until a later row has a verdict.
        """
        high, low = int(problem_id[:16], 16), int(problem_id[16:], 16)
        start = np.searchsorted(self.high, np.uint64(high), side="left")
        end = np.searchsorted(self.high, np.uint64(high), side="right")
        rows = [column[start:end].tolist() for column in self.arrays()[1:]]
        verdicts: dict[int, Verdict] = {}
        seen: set[int] = set()
        wanted = int(judge, 16)
        for other, draw, verdict, key in zip(*rows, strict=True):
            if other != low:
                continue
            seen.add(draw)
            open_still = verdicts.get(draw, Verdict.ERROR) is Verdict.ERROR
            if open_still and key == wanted:
                verdicts[draw] = VERDICTS[verdict]
        sound = {draw for draw, verdict in verdicts.items() if verdict is not Verdict.ERROR}
        return KnownAttempts(verdicts, seen - sound)

    def unsettled(self, high: np.ndarray, judge: np.ndarray) -> np.ndarray:
        """Which of some problems may have stale attempts: only those are worth a `prior`.

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
            place = np.searchsorted(high, self.high[rows], side="right") - 1
            known = (place >= 0) & (high[place] == self.high[rows])
            failed = self.verdict[rows] == VERDICTS.index(Verdict.ERROR)
            odd = known & ((judge[place] != self.judge[rows]) | failed)
            found[place[odd]] = True
        return found

    def plus(self, fresh: "AttemptIndex") -> "AttemptIndex":
        """With the rows of parts that were logged later."""
        parts = self.parts | fresh.parts
        if not len(fresh):
            return replace(self, parts=parts)
        places = np.searchsorted(self.high, fresh.high, side="right")
        both = zip(self.arrays(), fresh.arrays(), strict=True)
        high, low, index, verdict, judge = (np.insert(mine, places, its) for mine, its in both)
        return AttemptIndex(high, low, index, verdict, judge, parts)


def halves(values: pa.Array, width: int) -> np.ndarray:
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
    return decode(column.dictionary)[column.indices.to_numpy()]


def _verdicts(values: pa.Array) -> np.ndarray:
    return np.array([VERDICTS.index(Verdict(value)) for value in values.to_pylist()], np.uint8)


def piece(batches: Iterable[pa.RecordBatch]) -> AttemptIndex:
    """The small columns of one part, in its order: not sorted yet.

    Raises:
        ValueError: an id, judge key or verdict that is none.
    """
    found = [
        (
            _by_value(batch["problem_id"], lambda values: halves(values, 2)),
            batch["index"].to_numpy().astype(np.int32),
            _by_value(batch["verdict"], _verdicts),
            _by_value(batch["judge"], lambda values: halves(values, 1))[:, 0],
        )
        for batch in batches
        if batch.num_rows
    ]
    if not found:
        return assemble([])
    ids, index, verdict, judge = (np.concatenate(column) for column in zip(*found, strict=True))
    return AttemptIndex(ids[:, 0].copy(), ids[:, 1].copy(), index, verdict, judge)


def assemble(pieces: list[AttemptIndex], parts: Iterable[str] = ()) -> AttemptIndex:
    """One sorted state of all pieces, which it empties: the rows are never held three times."""
    kinds = (np.uint64, np.uint64, np.int32, np.uint8, np.uint64)
    size = sum(map(len, pieces))
    whole = [np.empty(size, kind) for kind in kinds]
    end = size
    while pieces:
        last = pieces.pop()
        for column, values in zip(whole, last.arrays(), strict=True):
            column[end - len(last) : end] = values
        end -= len(last)
    order = np.argsort(whole[0], kind="stable")
    for place, column in enumerate(whole):
        whole[place] = column[order]
    high, low, index, verdict, judge = whole
    return AttemptIndex(high, low, index, verdict, judge, frozenset(parts))
