"""Decontamination: no question of a benchmark may stay in the pool, however it is written.

    index = Index(items, config, near)                    what the benchmarks hold
    index.find(questions, features, procedural, keys)     per question its item, or None

A question matches an item in one of four ways, on normalised tokens (`text_tokens.py`):
  same       the tokens are equal, lead-in words ("find the value of") apart
  near       Jaccard similarity of shingles as for near-duplicates, numbers equal
  embedded   the whole item stands in the question; a short one as sentences of its own
  shared     they share an n-gram (s1's rule: any 8), enough of the shorter text, and of its
             numbers; questions that differ in their numbers only are different ones
Problems that a generator made share the words of their template with all their siblings, so there
only the first and the third count. Pure: no Ray, no files.
"""

from dataclasses import dataclass, field

import numpy as np

from limo_ray.core.checks import check_between
from limo_ray.problems.benchmarks import BENCHMARKS, Item
from limo_ray.problems.matchers import (
    Batch,
    KnownItems,
    LongItemInside,
    Match,
    Matcher,
    NearText,
    SameText,
    SharedNgram,
    ShortItemInside,
)
from limo_ray.problems.near_duplicates import NearConfig
from limo_ray.problems.sources import SourceConfig
from limo_ray.problems.text_features import Features
from limo_ray.storage.pinned_files import GITHUB


@dataclass(kw_only=True, slots=True)
class DecontaminateConfig:
    benchmarks: list[str] = field(default_factory=list)
    """Names of benchmarks (limo_ray.problems.benchmarks.BENCHMARKS)."""
    folder: str = ""
    """Folder with local copies, <name>.jsonl, that go before the hub."""
    mirror: str = GITHUB
    """Where benchmarks that are files of public repositories come from: <mirror>/<owner>/<name>/
    <commit>/<path>."""
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
        for index, name in enumerate(self.benchmarks):
            if name not in BENCHMARKS:
                raise ValueError(
                    f"benchmarks[{index}]: {name!r} is none of {', '.join(BENCHMARKS)}"
                )
        for index, source in enumerate(self.files):
            try:
                source.check()
            except ValueError as e:
                raise ValueError(f"files[{index}].{e}") from e
        check_between("ngram", self.ngram, 3, 100)
        for name in ("coverage", "numbers"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be between 0 and 1")


class Index:
    """The questions of all benchmarks, ready to be found in a pool. Pickled to every worker."""

    def __init__(self, items: list[Item], config: DecontaminateConfig, near: NearConfig) -> None:
        """Raises ValueError for an item without a single token."""
        self.items = items
        # as for near-duplicates that differ in numbers, whatever the pool does with templates
        self.near = NearConfig(
            threshold=near.threshold, shingle=near.shingle, permutations=near.permutations
        )
        known = KnownItems.of(items)
        self.matchers: list[Matcher] = [
            SameText(known),
            NearText(known, self.near),
            ShortItemInside(known),
            LongItemInside(known),
            SharedNgram(known, config.ngram, config.coverage, config.numbers),
        ]

    def find(
        self, questions: list[str], features: Features, procedural: np.ndarray, keys: np.ndarray
    ) -> list[Match | None]:
        """For each question the item that it contains, the surest match first.

        Args:
            questions: n texts.
            features: theirs.
            procedural: (n,) bool: made by a generator.
            keys: (n, bands): their band keys, numbers included (`near_duplicates.band_keys`).
        """
        batch = Batch(questions=questions, features=features, procedural=procedural, keys=keys)
        for matcher in self.matchers if self.items else ():
            matcher.search(batch)
        return [batch.found.get(row) for row in range(len(questions))]
