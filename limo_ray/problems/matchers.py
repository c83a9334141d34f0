"""How a question is recognised as an item of a benchmark: one class for each way, tried in order.

    known = KnownItems.of(items)
    for matcher in (SameText(known), NearText(known, near), ...):
        matcher.search(batch)          adds to batch.found

Each matcher looks only at questions that no earlier one matched. Pure: no Ray, no files.
"""

import re
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from limo_ray.core.records import normalise
from limo_ray.problems.benchmarks import Item
from limo_ray.problems.hash_table import HashTable
from limo_ray.problems.near_duplicates import PROCEDURAL, NearConfig, band_keys, jaccard, shingles
from limo_ray.problems.text_features import Features
from limo_ray.problems.text_tokens import content, folded, tokens

SHORT = 12  # tokens; shorter items are looked for as whole sentences too
LOOSE = 5  # tokens from which a short item needs no sentence of its own
SHOWN = 60  # tokens of shared text in the evidence

# What tokens leave out, and boards and figures of generated problems consist of.
_FIGURE = re.compile(r"[^\w\s.,:;?!'\"()${}+\-*/=^%<>\\]|_")
# Where a short item may begin and end inside a longer text.
_SENTENCE = re.compile(r"(?<=[.?!])\s+|[\n\r]+|:\s+|[;“”\"]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A question's match with an item of a benchmark, for the ledger."""

    benchmark: str
    item: int
    match: str
    share: float
    shared: str

    def evidence(self, question: str) -> dict[str, Any]:
        """What the ledger records."""
        return asdict(self) | {"share": round(self.share, 4), "question": question[:200]}


@dataclass(kw_only=True, slots=True)
class Batch:
    """n questions to match, with what the matchers read of them, and the matches so far."""

    questions: list[str]
    features: Features
    procedural: np.ndarray  # (n,) bool: made by a generator
    keys: np.ndarray  # (n, bands) uint64: near_duplicates.band_keys, numbers included
    found: dict[int, Match] = field(default_factory=dict)  # by row

    def row_of(self, position: int) -> int:
        """The question that a token is of."""
        return int(np.searchsorted(self.features.starts, position, side="right")) - 1


class Matcher(Protocol):
    """One way in which a question matches an item. Pickled to every worker."""

    def search(self, batch: Batch) -> None:
        """Add a match for each question that has one and none so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownItems:
    """The items of all benchmarks, and what all matchers read of them."""

    items: list[Item]
    tokens: list[list[str]]
    features: Features
    procedural: np.ndarray  # (n,) bool: made by a generator
    figures: dict[int, str]
    """Normalised text of generated items that hold characters which tokens leave out."""

    @classmethod
    def of(cls, items: list[Item]) -> "KnownItems":
        """Raises ValueError for an item without a single token."""
        texts = [[folded(token) for token in tokens(item.question)] for item in items]
        for item, text in zip(items, texts, strict=True):
            if not text:
                raise ValueError(
                    f"benchmark {item.benchmark}: item {item.number} has no words or numbers: "
                    f"{item.question[:80]!r}"
                )
        procedural = [item.domain in PROCEDURAL for item in items]
        figures = {
            number: normalise(item.question)
            for number, item in enumerate(items)
            if procedural[number] and _FIGURE.search(item.question)
        }
        return cls(
            items=items, tokens=texts, features=Features.of(item.question for item in items),
            procedural=np.array(procedural, bool), figures=figures,
        )  # fmt: skip

    def match(
        self, item: int, how: str, shared: list[str] | None = None, share: float = 1.0
    ) -> Match:
        """A match with an item; all of its tokens are shared unless others are given."""
        known = self.items[item]
        text = " ".join((self.tokens[item] if shared is None else shared)[:SHOWN])
        return Match(
            benchmark=known.benchmark, item=known.number, match=how, shared=text, share=share
        )

    def first_of(self, candidates: list[int], question: str) -> int | None:
        """The first candidate, passing over generated items whose figure is not in the question.

        Their tokens alone say too little.
        """
        text = normalise(question) if self.figures else ""
        return next((item for item in candidates if self.figures.get(item, "") in text), None)


class SameText:
    """`same`: the tokens are equal, lead-in words ("find the value of") apart."""

    def __init__(self, known: KnownItems) -> None:
        self.known = known
        number = np.arange(len(known.items))
        self.whole = HashTable.of(known.features.whole(), number)
        cores = known.features.cores()
        # "find the area" is no item by its core: it needs a number or an operation
        numbered = [any(c and not c.isalpha() for c in map(content, t)) for t in known.tokens]
        chosen = (cores != 0) & np.array(numbered, bool)
        self.cores = HashTable.of(cores[chosen], number[chosen])

    def search(self, batch: Batch) -> None:
        features = batch.features
        for table, hashes in ((self.whole, features.whole()), (self.cores, features.cores())):
            for row in table.hits(hashes).tolist():
                if row in batch.found:
                    continue
                candidates = table.get(hashes[row]).tolist()
                item = self.known.first_of(candidates, batch.questions[row])
                if item is not None:
                    batch.found[row] = self.known.match(item, "same")


class NearText:
    """`near`: Jaccard similarity of shingles as for near-duplicates, numbers equal."""

    def __init__(self, known: KnownItems, near: NearConfig) -> None:
        self.known, self.near = known, near
        keys = band_keys(known.features, np.zeros(len(known.items), bool), near)
        keys[known.procedural] = 0
        numbers = np.repeat(np.arange(len(known.items)), keys.shape[1])
        self.bands = HashTable.of(keys.ravel(), numbers)
        flat, offsets = shingles(known.features, near)
        self.shingles = [frozenset(flat[a:b].tolist()) for a, b in pairwise(offsets)]

    def search(self, batch: Batch) -> None:
        hits = self.bands.hits(batch.keys.ravel()) // batch.keys.shape[1]
        for row in np.unique(hits).tolist():
            if row in batch.found:
                continue
            own = frozenset(shingles(batch.features.only(row), self.near)[0].tolist())
            keys = batch.keys[row]
            candidates = {int(item) for key in keys[keys != 0] for item in self.bands.get(key)}
            alike = [(jaccard(own, self.shingles[item]), -item) for item in candidates]
            share, item = max(alike, default=(0.0, 0))
            if share >= self.near.threshold:
                batch.found[row] = self.known.match(-item, "near", share=share)


class ShortItemInside:
    """`embedded`: an item of fewer than SHORT tokens stands in the question.

    It has to be one or more whole sentences; from LOOSE tokens on it is enough that no number or
    operation stands right before or after it.
    """

    def __init__(self, known: KnownItems) -> None:
        self.known = known
        self.by_length: dict[int, HashTable] = {}
        lengths = known.features.lengths
        for length in np.unique(lengths[lengths < SHORT]).tolist():
            self.by_length[length] = _beginnings(known, length, lengths == length)

    def search(self, batch: Batch) -> None:
        tried: set[tuple[int, int]] = set()  # (row, hash of the item): a text may repeat it
        windows = batch.features.windows_of(list(self.by_length))
        for (length, table), hashes in zip(self.by_length.items(), windows, strict=True):
            for position in table.hits(hashes).tolist():
                row, key = batch.row_of(position), int(hashes[position])
                if row in batch.found:
                    continue
                candidates = table.get(key).tolist()
                if length >= LOOSE and _stands_alone(batch.features, row, position, length):
                    batch.found[row] = self.known.match(candidates[0], "embedded")
                elif (row, key) not in tried:
                    tried.add((row, key))
                    item = self._as_sentences(batch.questions[row], candidates)
                    if item is not None:
                        batch.found[row] = self.known.match(item, "embedded")

    def _as_sentences(self, question: str, candidates: list[int]) -> int | None:
        """The candidate that is one or more whole sentences of the question."""
        sentences = [[folded(t) for t in tokens(text)] for text in _SENTENCE.split(question)]
        sentences = [sentence for sentence in sentences if sentence]
        for begin in range(len(sentences)):
            run: list[str] = []
            for sentence in sentences[begin:]:
                run = run + sentence
                if len(run) >= SHORT:
                    break
                for item in candidates:
                    if run == self.known.tokens[item]:
                        return item
        return None


class LongItemInside:
    """`embedded`: an item of SHORT tokens or more stands in the question from end to end."""

    def __init__(self, known: KnownItems) -> None:
        self.known = known
        features = known.features
        self.hashes = np.split(features.token, features.starts[1:-1])
        self.beginnings = _beginnings(known, SHORT, features.lengths >= SHORT)

    def search(self, batch: Batch) -> None:
        features = batch.features
        hashes = features.windows(SHORT)
        for position in self.beginnings.hits(hashes).tolist():
            row = batch.row_of(position)
            if row in batch.found:
                continue
            rest = features.token[position : features.starts[row + 1]]
            candidates = [
                item for item in self.beginnings.get(hashes[position]).tolist()
                if np.array_equal(self.hashes[item], rest[: len(self.hashes[item])])
            ]  # fmt: skip
            item = self.known.first_of(candidates, batch.questions[row])
            if item is not None:
                batch.found[row] = self.known.match(item, "embedded")


class SharedNgram:
    """`shared`: an n-gram in common (s1's rule), enough of the shorter text, and of its numbers.

    Questions that differ in their numbers only are different ones. Generated problems share the
    words of their template with all others of their kind, so they are not looked at.

    Args:
        ngram: tokens in the n-gram.
        coverage: of the tokens of the shorter text, what must be shared as well.
        numbers: of the numbers and operations, what must stand in the shared text.
    """

    def __init__(self, known: KnownItems, ngram: int, coverage: float, numbers: float) -> None:
        self.known, self.ngram, self.coverage, self.numbers = known, ngram, coverage, numbers
        hashes, rows = known.features.windows(ngram), known.features.rows
        position = np.arange(len(rows)) - known.features.starts[rows]
        chosen = (hashes != 0) & ~known.procedural[rows]
        origins = np.stack([rows[chosen], position[chosen]], axis=1)
        self.grams = HashTable.of(hashes[chosen], origins)  # to (item, position)
        self.skeletons = known.features.skeletons()

    def search(self, batch: Batch) -> None:
        hashes, rows = batch.features.windows(self.ngram), batch.features.rows
        hits = self.grams.hits(hashes)
        skeletons = batch.features.skeletons()
        for row in np.unique(rows[hits]).tolist():
            if row in batch.found or batch.procedural[row]:
                continue
            begin = bisect_left(hits, batch.features.starts[row])
            end = bisect_left(hits, batch.features.starts[row + 1])
            contents = batch.features.only(row).content
            match = self._best(hashes[hits[begin:end]], contents, skeletons[row])
            if match is not None:
                batch.found[row] = match

    def _best(self, hashes: np.ndarray, contents: np.ndarray, skeleton: np.uint64) -> Match | None:
        """The item that most is shared with, if it is enough.

        Args:
            hashes: the question's n-grams that some item has too.
            contents: `Features.content` of the question's tokens.
            skeleton: the question without its numbers.
        """
        covered: dict[int, set[int]] = {}
        for key in np.unique(hashes):
            for item, position in self.grams.get(key).tolist():
                covered.setdefault(item, set()).update(range(position, position + self.ngram))
        shorter = max(len(contents), self.ngram)
        numbers = int(np.count_nonzero(contents))
        best: Match | None = None
        for item, shared in sorted(covered.items()):
            if self.numbers and self.skeletons[item] == skeleton:
                continue  # the same tokens would have been found: only numbers differ
            text = self.known.tokens[item]
            share = len(shared) / min(len(text), shorter)
            deciding = [bool(content(token)) for token in text]
            wanted = self.numbers * min(sum(deciding), numbers)
            if share < self.coverage or sum(deciding[i] for i in shared) < wanted:
                continue
            if best is None or share > best.share:
                run = _longest_run(text, shared)
                best = self.known.match(item, "shared", run, min(share, 1.0))
        return best


def _beginnings(known: KnownItems, length: int, chosen: np.ndarray) -> HashTable:
    """The first `length` tokens of the chosen items (n,) bool, to their numbers."""
    numbers = np.flatnonzero(chosen)
    return HashTable.of(known.features.windows(length)[known.features.starts[numbers]], numbers)


def _stands_alone(features: Features, row: int, position: int, length: int) -> bool:
    """Whether no number or operation stands right before or after the tokens."""
    begin, end = features.starts[row], features.starts[row + 1]
    around = [i for i in (position - 1, position + length) if begin <= i < end]
    return not any(features.content[i] for i in around)


def _longest_run(text: list[str], covered: set[int]) -> list[str]:
    """The longest run of covered tokens."""
    best: list[str] = []
    run: list[str] = []
    for position in sorted(covered):
        run = [*run, text[position]] if position - 1 in covered else [text[position]]
        if len(run) > len(best):
            best = run
    return best
