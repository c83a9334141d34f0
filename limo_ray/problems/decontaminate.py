"""Decontamination: no question of a benchmark may stay in the pool, however it is written.

    index = Index(items, config, near)                    what the benchmarks hold
    index.find(questions, features, procedural, keys)     per question its item, or None

A question matches an item in one of four ways, on normalised tokens (`tokens.py`):
  same       the tokens are equal, lead-in words ("find the value of") apart
  near       Jaccard similarity of shingles as for near-duplicates, numbers equal
  embedded   the whole item stands in the question; a short one as sentences of its own
  shared     they share an n-gram (s1's rule: any 8), enough of the shorter text, and of its
             numbers; questions that differ in their numbers only are different ones
Problems that a generator made share the words of their template with all their siblings, so there
only the first and the third count. Pure: no Ray, no files.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from limo_ray.core.records import normalise
from limo_ray.problems.benchmarks import BENCHMARKS, Item
from limo_ray.problems.near_duplicates import PROCEDURAL, NearConfig, band_keys, jaccard, shingles
from limo_ray.problems.sources import SourceConfig
from limo_ray.problems.text_features import Features
from limo_ray.problems.text_tokens import content, folded, tokens

SHORT = 12  # tokens; shorter items are looked for as whole sentences too
LOOSE = 5  # tokens from which a short item needs no sentence of its own
SHOWN = 60  # tokens of shared text in the evidence
_BITS = 22  # of the table that most n-grams are turned away by

# What tokens leave out, and boards and drawings of made problems consist of.
_FIGURE = re.compile(r"[^\w\s.,:;?!'\"()${}+\-*/=^%<>\\]|_")
# Where a short item may begin and end inside a longer text.
_SENTENCE = re.compile(r"(?<=[.?!])\s+|[\n\r]+|:\s+|[;“”\"]")


@dataclass(kw_only=True, slots=True)
class DecontaminateConfig:
    benchmarks: list[str] = field(default_factory=list)
    """Names of benchmarks (limo_ray.problems.benchmarks.BENCHMARKS)."""
    folder: str = ""
    """Folder with local copies, <name>.jsonl, that go before the hub."""
    files: list[SourceConfig] = field(default_factory=list)
    """Further questions to keep out: files, data sets or generators, named as sources are."""
    allow_missing: bool = False
    """Go on without benchmarks that cannot be loaded; otherwise the job refuses to start."""
    ngram: int = 8
    """Tokens in the n-gram that a question may not share with an item (s1, arXiv 2501.19393: 8)."""
    coverage: float = 0.2
    """Of the tokens of the shorter text, what must be shared as well: with 0.2 any shared 8-gram
    counts in texts of up to 40 tokens. 0 is s1's rule."""
    numbers: float = 0.5
    """Of the item's numbers and operations, what must stand in the shared text: a question with
    other numbers is another problem. 0 is s1's rule."""

    def check(self) -> None:
        for place, name in enumerate(self.benchmarks):
            if name not in BENCHMARKS:
                raise ValueError(
                    f"benchmarks[{place}]: {name!r} is none of {', '.join(BENCHMARKS)}"
                )
        for place, source in enumerate(self.files):
            try:
                source.check()
            except ValueError as e:
                raise ValueError(f"files[{place}].{e}") from e
        if not 3 <= self.ngram <= 100:
            raise ValueError(f"ngram: {self.ngram} must be between 3 and 100")
        for name in ("coverage", "numbers"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Hashes to values, with a table of bits before them: nearly all queries end there."""

    keys: np.ndarray  # (m,) uint64, sorted
    values: np.ndarray  # (m, ...) int64
    table: np.ndarray  # (2^_BITS,) bool

    @classmethod
    def of(cls, keys: np.ndarray, values: np.ndarray) -> "_Lookup":
        order = np.argsort(keys, kind="stable")
        table = np.zeros(1 << _BITS, bool)
        table[keys >> np.uint64(64 - _BITS)] = True
        return cls(keys[order], values[order], table)

    def hits(self, queries: np.ndarray) -> np.ndarray:
        """Which of the queries are among the keys, as positions; hash 0 never is."""
        maybe = np.flatnonzero(self.table[queries >> np.uint64(64 - _BITS)])
        places = np.searchsorted(self.keys, queries[maybe])
        places[places == len(self.keys)] = 0
        found = (self.keys[places] == queries[maybe]) & (queries[maybe] != 0)
        return maybe[found] if len(self.keys) else maybe[:0]

    def get(self, query: int) -> np.ndarray:
        """All values of one key."""
        begin = np.searchsorted(self.keys, np.uint64(query), "left")
        return self.values[begin : np.searchsorted(self.keys, np.uint64(query), "right")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A question's match with an item of a benchmark, for the ledger."""

    benchmark: str
    item: int
    match: str
    shared: str
    share: float

    def evidence(self, question: str) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "item": self.item,
            "match": self.match,
            "share": round(self.share, 4),
            "shared": self.shared,
            "question": question[:200],
        }


class Index:
    """The questions of all benchmarks, ready to be found in a pool. Pickled to every worker."""

    def __init__(self, items: list[Item], config: DecontaminateConfig, near: NearConfig) -> None:
        """Raises ValueError for an item without a single token."""
        self.items = items
        self.config = config
        # as for near-duplicates that differ in numbers, whatever the pool does with templates
        self.near = NearConfig(
            threshold=near.threshold, shingle=near.shingle, permutations=near.permutations
        )
        self.tokens = [[folded(token) for token in tokens(item.question)] for item in items]
        for item, said in zip(items, self.tokens, strict=True):
            if not said:
                raise ValueError(
                    f"benchmark {item.benchmark}: item {item.number} has no words or numbers: "
                    f"{item.question[:80]!r}"
                )
        found = Features.of(item.question for item in items)
        self.hashes = np.split(found.token, found.starts[1:-1])
        self.made = np.array([item.domain in PROCEDURAL for item in items], bool)
        self.figures = {
            number: normalise(item.question)
            for number, item in enumerate(items)
            if item.domain in PROCEDURAL and _FIGURE.search(item.question)
        }
        number = np.arange(len(items))
        self.same = _Lookup.of(found.whole(), number)
        cores = found.cores()
        numbered = [any(c and not c.isalpha() for c in map(content, said)) for said in self.tokens]
        told = (cores != 0) & np.array(numbered, bool)  # "find the area" is no item by its core
        self.cores = _Lookup.of(cores[told], number[told])
        self.grams = self._windows(found, config.ngram, number[~self.made])
        self.short = {
            int(length): self._begins(found, int(length), number[found.lengths == length])
            for length in np.unique(found.lengths[found.lengths < SHORT])
        }
        long = found.lengths >= SHORT
        self.whole = self._begins(found, SHORT, number[long])
        keys = band_keys(found, np.zeros(len(items), bool), self.near)
        keys[self.made] = 0
        self.bands = _Lookup.of(keys.ravel(), np.repeat(number, keys.shape[1]))
        flat, offsets = shingles(found, self.near)
        self.skeletons = found.skeletons()
        self.shingles = [frozenset(flat[a:b].tolist()) for a, b in pairwise(offsets)]

    @staticmethod
    def _windows(found: Features, length: int, chosen: np.ndarray) -> _Lookup:
        """All n-grams of the chosen items, with (item, place)."""
        hashes = found.windows(length)
        rows = found.rows
        places = np.arange(len(rows)) - found.starts[rows]
        taken = (hashes != 0) & np.isin(rows, chosen)
        return _Lookup.of(hashes[taken], np.stack([rows[taken], places[taken]], axis=1))

    @staticmethod
    def _begins(found: Features, length: int, chosen: np.ndarray) -> _Lookup:
        """The first `length` tokens of the chosen items."""
        return _Lookup.of(found.windows(length)[found.starts[:-1][chosen]], chosen)

    def find(
        self, questions: list[str], found: Features, procedural: np.ndarray, keys: np.ndarray
    ) -> list[Match | None]:
        """For each question the item that it contains, the surest match first.

        Args:
            questions: n texts.
            found: their features.
            procedural: (n,) bool: made by a generator.
            keys: (n, bands): their band keys, numbers included (`near.band_keys`).
        """
        result: list[Match | None] = [None] * len(questions)
        if not self.items:
            return result
        rows = found.rows

        def settle(row: int, match: Match | None) -> None:
            if match and not result[row]:
                result[row] = match

        for lookup, hashes in ((self.same, found.whole()), (self.cores, found.cores())):
            for row in lookup.hits(hashes).tolist():
                for item in self._shown(questions[row], lookup.get(hashes[row]))[:1]:
                    settle(row, self._match(item, "same", self.tokens[item], 1.0))
        for row in np.unique(self.bands.hits(keys.ravel()) // keys.shape[1]).tolist():
            if not result[row]:
                settle(row, self._near(row, found, keys[row]))
        tried: set[tuple[int, int]] = set()  # (row, hash of the item): a text may repeat it
        windows = found.windows_of([*self.short, SHORT])
        for length, lookup in self.short.items():
            hashes = next(windows)
            for place in lookup.hits(hashes).tolist():
                row = int(rows[place])
                if not result[row]:
                    candidates = lookup.get(hashes[place])
                    hash_ = int(hashes[place])
                    if length >= LOOSE and self._stands_alone(found, row, place, length):
                        item = int(candidates[0])
                        settle(row, self._match(item, "embedded", self.tokens[item], 1.0))
                    elif (row, hash_) not in tried:
                        tried.add((row, hash_))
                        settle(row, self._sentence(questions[row], candidates))
        hashes = next(windows)
        for place in self.whole.hits(hashes).tolist():
            row = int(rows[place])
            if not result[row]:
                said = found.token[place : found.starts[row + 1]]
                candidates = self.whole.get(hashes[place])
                settle(row, self._embedded(questions[row], said, candidates))
        hashes = found.windows(self.config.ngram)
        places = self.grams.hits(hashes)
        skeletons = found.skeletons()
        for row in np.unique(rows[places]).tolist():
            if not result[row] and not procedural[row]:
                begin = bisect_left(places, found.starts[row])
                end = bisect_left(places, found.starts[row + 1])
                said = found.only(row).content
                numbers = int(np.count_nonzero(said))
                shared = hashes[places[begin:end]]
                settle(row, self._shared(shared, len(said), numbers, skeletons[row]))
        return result

    def _match(self, item: int, how: str, shared: list[str], share: float) -> Match:
        known = self.items[item]
        return Match(
            benchmark=known.benchmark, item=known.number, match=how,
            shared=" ".join(shared[:SHOWN]), share=share,
        )  # fmt: skip

    def _shown(self, question: str, candidates: np.ndarray) -> list[int]:
        """The candidates but for made problems with another figure: their tokens say too little."""
        text = normalise(question) if self.figures else ""
        return [item for item in candidates.tolist() if self.figures.get(item, "") in text]

    def _near(self, row: int, found: Features, keys: np.ndarray) -> Match | None:
        own = frozenset(shingles(found.only(row), self.near)[0].tolist())
        candidates = {int(item) for key in keys[keys != 0] for item in self.bands.get(key)}
        alike = [(jaccard(own, self.shingles[item]), -item) for item in candidates]
        share, item = max(alike, default=(0.0, 0))
        if share < self.near.threshold:
            return None
        return self._match(-item, "near", self.tokens[-item], share)

    @staticmethod
    def _stands_alone(found: Features, row: int, place: int, length: int) -> bool:
        """Whether no number or operation stands right before or after it."""
        around = [place - 1, place + length]
        inside = [i for i in around if found.starts[row] <= i < found.starts[row + 1]]
        return not any(found.content[i] for i in inside)

    def _sentence(self, question: str, candidates: np.ndarray) -> Match | None:
        """A short item that stands in the question as one or more whole sentences."""
        parts = [
            p for text in _SENTENCE.split(question) if (p := [folded(t) for t in tokens(text)])
        ]
        for begin in range(len(parts)):
            run: list[str] = []
            for part in parts[begin:]:
                run = run + part
                if len(run) >= SHORT:
                    break
                for item in candidates.tolist():
                    if run == self.tokens[item]:
                        return self._match(item, "embedded", run, 1.0)
        return None

    def _embedded(self, question: str, said: np.ndarray, candidates: np.ndarray) -> Match | None:
        """An item that the tokens from here on begin with."""
        fits = [
            item for item in candidates
            if len(own := self.hashes[item]) <= len(said) and np.array_equal(own, said[: len(own)])
        ]  # fmt: skip
        for item in self._shown(question, np.array(fits, np.int64))[:1]:
            return self._match(item, "embedded", self.tokens[item], 1.0)
        return None

    def _shared(
        self, hashes: np.ndarray, length: int, numbers: int, skeleton: np.uint64
    ) -> Match | None:
        """The item that most n-grams are shared with, if they are enough.

        `length` counts the question's tokens, `numbers` those that are numbers and operations.
        """
        places: dict[int, set[int]] = {}
        for hash_ in np.unique(hashes):
            for item, place in self.grams.get(hash_).tolist():
                places.setdefault(item, set()).update(range(place, place + self.config.ngram))
        best: Match | None = None
        for item, covered in sorted(places.items()):
            if self.config.numbers and self.skeletons[item] == skeleton:
                continue  # the same tokens would have been found: only numbers differ
            said = self.tokens[item]
            share = len(covered) / min(len(said), max(length, self.config.ngram))
            own = [bool(content(token)) for token in said]
            wanted = self.config.numbers * min(sum(own), numbers)
            if share < self.config.coverage or sum(own[i] for i in covered) < wanted:
                continue
            if best is None or share > best.share:
                best = self._match(item, "shared", _longest(said, covered), min(share, 1.0))
        return best


def _longest(said: list[str], covered: set[int]) -> list[str]:
    """The longest run of covered tokens."""
    best: list[str] = []
    run: list[str] = []
    for place in sorted(covered):
        run = [*run, said[place]] if place - 1 in covered else [said[place]]
        if len(run) > len(best):
            best = run
    return best
