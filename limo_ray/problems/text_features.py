"""What a batch of questions looks like to near-duplicate search and decontamination, in arrays.

    found = Features.of(["What is 3 + 4?", ...])
    found.whole()      one hash per question: equal for the same tokens
    found.windows(8)   one hash per token: of the 8 tokens that begin there

Token sequences lie in one flat array with row offsets, so that hashing n-grams and shingles is
numpy over the whole batch. Hashes are 64 bits of BLAKE2 and of a mixing function, the same in
every process and on every machine.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

import numpy as np

from limo_ray.problems.text_tokens import LEAD_IN, folded, tokens
from limo_ray.problems.text_tokens import content as content_of

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xD1342543DE82EF95)  # odd: windows are polynomials in it, modulo 2^64
VOCABULARY = 1_000_000  # tokens remembered by a process before it starts anew


def mix(values: np.ndarray) -> np.ndarray:
    """splitmix64: spreads every bit of uint64 values over all of them."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def text_hash(text: str) -> int:
    """64 bits of BLAKE2b of a text."""
    encoded = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")


class _Vocabulary(dict[str, int]):
    """Token -> its number; what is known of each token is computed once."""

    def __init__(self) -> None:
        self.hashes: list[int] = []
        self.contents: list[int] = []
        self.lead_ins: list[bool] = []
        self._arrays = np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, bool)

    def __missing__(self, token: str) -> int:
        plain = folded(token)
        content = content_of(plain)
        self.hashes.append(text_hash(plain))
        self.contents.append(text_hash("content " + content) if content else 0)
        self.lead_ins.append(plain in LEAD_IN)
        self[token] = number = len(self.hashes) - 1
        return number

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hashes, contents and lead-ins by token number."""
        known = len(self._arrays[0])
        if known < len(self):
            fresh = (
                np.array(self.hashes[known:], np.uint64),
                np.array(self.contents[known:], np.uint64),
                np.array(self.lead_ins[known:], bool),
            )
            hashes, contents, lead_ins = (
                np.concatenate(pair) for pair in zip(self._arrays, fresh, strict=True)
            )
            self._arrays = hashes, contents, lead_ins
        return self._arrays


_vocabulary = _Vocabulary()


@dataclass(frozen=True, slots=True)
class Features:
    """Tokens of n questions: flat arrays of all t tokens, and where each question's begin."""

    token: np.ndarray  # (t,) uint64
    content: np.ndarray  # (t,) uint64: its number, operation or quantity, or 0
    lead_in: np.ndarray  # (t,) bool: words such as "find the value of"
    starts: np.ndarray  # (n + 1,) int64

    @classmethod
    def of(cls, questions: Iterable[str]) -> "Features":
        """The features of the questions, in order."""
        global _vocabulary
        if len(_vocabulary) > VOCABULARY:
            _vocabulary = _Vocabulary()
        words = [tokens(question) for question in questions]
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum([len(each) for each in words], out=starts[1:])
        flat = map(_vocabulary.__getitem__, chain.from_iterable(words))
        numbers = np.fromiter(flat, np.int64, starts[-1])
        token, content, lead_in = _vocabulary.arrays()
        return cls(token[numbers], content[numbers], lead_in[numbers], starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def only(self, row: int) -> "Features":
        """Those of one question."""
        own = slice(self.starts[row], self.starts[row + 1])
        starts = np.array([0, own.stop - own.start])
        return Features(self.token[own], self.content[own], self.lead_in[own], starts)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64: tokens of each question."""
        return np.diff(self.starts)

    @property
    def rows(self) -> np.ndarray:
        """(t,) int64: the question that each token is of."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def whole(self) -> np.ndarray:
        """(n,) uint64: of all tokens in order."""
        return self._sequence(self.token, np.ones(len(self.token), bool))

    def contents(self) -> np.ndarray:
        """(n,) uint64: of the numbers and operations in order; 0 where there are none."""
        return self._sequence(self.content, self.content != 0)

    def cores(self) -> np.ndarray:
        """(n,) uint64: of the tokens in order but for lead-in words; 0 where there are none."""
        return self._sequence(self.token, ~self.lead_in)

    def skeleton(self) -> np.ndarray:
        """(t,) uint64: the tokens, all numbers and operations alike."""
        return np.where(self.content != 0, _GOLDEN, self.token)

    def skeletons(self) -> np.ndarray:
        """(n,) uint64: of all tokens in order, all numbers and operations alike."""
        return self._sequence(self.skeleton(), np.ones(len(self.token), bool))

    def _sequence(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Per question a hash of its chosen values in order."""
        before = np.concatenate([[0], np.cumsum(chosen)])
        position = before[:-1] - np.repeat(before[self.starts[:-1]], self.lengths)
        terms = np.where(chosen, mix(values + position.astype(np.uint64) * _GOLDEN), np.uint64(0))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
        return sums[self.starts[1:]] - sums[self.starts[:-1]]

    def windows(self, length: int, values: np.ndarray | None = None) -> np.ndarray:
        """(t,) uint64: of the `length` tokens from each token on; 0 where its question ends first.

        With a hash of 0 (one in 2^64) a window is missed.
        """
        return next(self.windows_of([length], values))

    def windows_of(
        self, lengths: list[int], values: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """`windows` for several lengths, ascending: each goes on from the one before."""
        values = self.token if values is None else values
        room = np.repeat(self.starts[1:], self.lengths) - np.arange(len(values))
        sums, done = np.zeros(len(values), np.uint64), 0
        for length in lengths:
            for i in range(done, min(length, len(values))):
                sums = sums[: len(values) - i] * _FACTOR + values[i:]
            done = length
            hashes = np.zeros(len(values), np.uint64)
            if length <= len(values):
                fits = room[: len(sums)] >= length
                hashes[: len(sums)] = np.where(fits, mix(sums + np.uint64(length)), np.uint64(0))
            yield hashes

    def shingles(
        self, length: int, values: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all runs of `length` tokens, flat, and the row offsets, (n + 1,) int64.

        A question of fewer tokens has one shingle, of all it has (none where it has no token).
        """
        hashes = self.windows(length, values)
        short = (self.lengths < length) & (self.lengths > 0)
        if short.any():
            values = self.token if values is None else values
            whole = self._sequence(values, np.ones(len(values), bool))
            hashes[self.starts[:-1][short]] = whole[short]
        chosen = hashes != 0
        before = np.concatenate([[0], np.cumsum(chosen)])
        return hashes[chosen], before[self.starts]
