"""Near-duplicates: questions that read alike and ask for the same numbers. Pure, on arrays.

    keys = band_keys(Features.of(questions), procedural, config)     per row: what to meet others by
    pairs = links(rows, keys, tie)                                   rows that met
    choose_survivors(candidates, pairs, config, equal)               which rows go

MinHash (Broder 1997) over shingles of normalised tokens, cut into bands (Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, section 3.4); every pair that meets is compared by its true
Jaccard similarity; clusters are connected components. Numbers matter: the keys carry the numbers
and operations of a question in order, so that "3 apples" and "4 apples" never meet.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

from limo_ray.core.checks import check_at_least, check_between, check_one_of
from limo_ray.problems.answer_check import Equal
from limo_ray.problems.text_features import Features, mix

SEED = 2502_03387
RECALL = 0.995  # of pairs right at the threshold, that the bands are chosen for
ALL_PAIRS = 32  # rows of one key that are all compared with one another
NEIGHBOURS = 16  # in a larger group each row is compared with so many next ones, and with the first
CROWD = 1_000  # rows of one key that are no longer copies but problems of one template
PROCEDURAL = ("gym", "countdown")


@dataclass(kw_only=True, slots=True)
class NearConfig:
    RENAMED: ClassVar = {"on": "drop", "True": "drop"}  # YAML reads the key on as True

    drop: bool = True
    """Drop near-duplicates, the best one of each cluster stays."""
    threshold: float = 0.8
    """Jaccard similarity of the shingles from which two questions are near-duplicates."""
    shingle: int = 3
    """Tokens in a shingle."""
    permutations: int = 80
    """MinHash values per question; bands are made of them for a recall of 99.5 % or more."""
    numbers: str = "differ"
    """differ: other numbers or operations make another problem; template: they do not, and
    per_template problems of each such cluster stay."""
    per_template: int = 1
    """With numbers: template, how many problems of one template stay."""
    same_answer: bool = True
    """Questions whose gold answers differ for the verifier are different problems."""

    def check(self) -> None:
        check_between("threshold", self.threshold, 0.3, 1)
        check_between("shingle", self.shingle, 1, 20)
        check_between("permutations", self.permutations, 16, 1024)
        check_one_of("numbers", self.numbers, ("differ", "template"))
        check_at_least("per_template", self.per_template, 1)


def bands(config: NearConfig) -> tuple[int, int]:
    """(bands, values in each): the longest bands that still find a pair at the threshold."""
    best = config.permutations, 1
    for rows in range(2, config.permutations + 1):
        count = config.permutations // rows
        if 1 - (1 - config.threshold**rows) ** count < RECALL:
            break
        best = count, rows
    return best


def shingles(found: Features, config: NearConfig) -> tuple[np.ndarray, np.ndarray]:
    """What similarity is of: hashes, flat, and row offsets. For a template without its numbers."""
    if config.numbers == "differ":
        return found.shingles(config.shingle)
    return found.shingles(config.shingle, found.skeleton())


def band_keys(found: Features, procedural: np.ndarray, config: NearConfig) -> np.ndarray:
    """(n, bands) uint64: rows with an equal key in some column are candidates; 0 is no key.

    Args:
        procedural: (n,) bool. Made problems share the words of their template with all others of
            their kind: they meet only where every token is the same.
    """
    import rensa

    count, rows = bands(config)
    hashes, offsets = shingles(found, config)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), count * rows, SEED
    )
    size = len(found) * count * rows
    digests = np.fromiter(chain.from_iterable(matrix.to_rows()), np.uint64, size)
    digests = digests.reshape(len(found), count, rows)
    keys = np.zeros((len(found), count), np.uint64)
    for i in range(rows):
        keys = mix(keys + digests[:, :, i])
    keys = keys + np.arange(1, count + 1, dtype=np.uint64)
    if config.numbers == "differ":
        keys = keys + found.contents()[:, None]
    keys = mix(keys)
    keys[procedural] = 0
    keys[procedural, 0] = mix(found.whole()[procedural] + np.uint64(count + 1))
    keys[found.lengths == 0] = 0
    return keys


def links(row: np.ndarray, key: np.ndarray, tie: np.ndarray) -> np.ndarray:
    """(m, 2) int64: pairs of rows with the same key, each pair once, the smaller row first.

    All pairs of small groups; a large one is linked through its neighbours in the order of `tie`
    (hash of the tokens, so that it does not depend on where rows lie), and a crowd of more than
    CROWD only where the tokens are the same: its rows are problems of one template.

    Args:
        row: (n,) int64; key: (n,) uint64; tie: (n,) uint32.
    """
    order = np.lexsort((row, tie, key))
    row, key, tie = row[order], key[order], tie[order]
    changes = np.flatnonzero(key[1:] != key[:-1]) + 1
    begins = np.append(np.zeros(min(len(key), 1), np.int64), changes)
    sizes = np.diff(np.append(begins, len(key)))
    size = np.repeat(sizes, sizes)
    left = np.arange(len(key)) - np.repeat(begins, sizes)  # position in the group
    found = [np.zeros((0, 2), np.int64)]
    for step in range(1, int(min(sizes.max(initial=1), ALL_PAIRS))):
        fits = (left + step < size) & ((size <= ALL_PAIRS) | (step <= NEIGHBOURS))
        first = np.flatnonzero(fits)
        first = first[(size[first] <= CROWD) | (tie[first] == tie[first + step])]
        found.append(np.stack([row[first], row[first + step]], axis=1))
    starred = np.flatnonzero((size > ALL_PAIRS) & (size <= CROWD) & (left > 0))
    found.append(np.stack([row[starred - left[starred]], row[starred]], axis=1))
    pairs = np.concatenate(found)
    pairs.sort(axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def components(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows in pairs, sorted, and for each the smallest row it is connected with."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, positions = np.unique(pairs, return_inverse=True)
    one, other = positions.reshape(pairs.shape).T
    graph = coo_array((np.ones(len(pairs), bool), (one, other)), shape=(len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return rows, rows[first[labels]]


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Shared shingles over all shingles of two sets."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if one or other else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A row that shares a key with another one, and what decides between them."""

    row: int
    """Its number in the pool."""
    id: str
    answer: str
    domain: str
    source: str
    file: str
    line: int
    rank: int
    """Of its source: rows of the one named first stay."""
    solved: bool
    """Whether it came with a worked solution."""
    contents: int
    """`Features.contents`."""
    shingles: frozenset[int]

    def precedence(self) -> tuple[int, bool, str]:
        """The smallest stays: the source named first, a worked solution, the smaller id."""
        return self.rank, not self.solved, self.id

    def same_problem(self, other: "Candidate", config: NearConfig, equal: Equal) -> bool:
        """Whether numbers and gold answers allow that both are one problem."""
        if self.contents != other.contents:
            return False
        if self.domain in PROCEDURAL:
            # Tokens do not see a board or a figure; the gold answer carries what it was made of.
            return self.answer == other.answer
        if not config.same_answer:
            return True
        return self.domain == other.domain and (
            self.answer == other.answer or equal(self.answer, other.answer, self.domain)
        )

    def evidence(self, dropped: "Candidate") -> str:
        """JSON for the ledger: why a row goes where this one stays."""
        kept = {"source": self.source, "file": self.file, "line": self.line}
        similarity = round(jaccard(self.shingles, dropped.shingles), 4)
        return json.dumps({"kept": kept, "id": self.id, "similarity": similarity})


def choose_survivors(
    candidates: list[Candidate], pairs: np.ndarray, config: NearConfig, equal: Equal
) -> dict[int, tuple[str, str]]:
    """The rows that go: row -> (reason, evidence as JSON).

    Args:
        pairs: (m, 2) rows of the candidates that are to be compared.
        equal: compares gold answers.
    """
    rows = {candidate.row: candidate for candidate in candidates}
    alike = [
        (one, other)
        for one, other in pairs.tolist()
        if jaccard(rows[one].shingles, rows[other].shingles) >= config.threshold
    ]
    same = [pair for pair in alike if rows[pair[0]].same_problem(rows[pair[1]], config, equal)]

    def ranked(cluster: Iterable[int]) -> list[int]:
        return sorted(cluster, key=lambda row: rows[row].precedence())

    dropped: dict[int, tuple[str, int]] = {}  # row -> reason, row that stays
    for cluster in _clusters(same):
        best, *others = ranked(cluster)
        dropped |= dict.fromkeys(others, ("near_duplicate", best))
    if config.numbers == "template":
        procedural = {row for row, known in rows.items() if known.domain in PROCEDURAL}
        for cluster in _clusters([pair for pair in alike if not procedural.intersection(pair)]):
            left = ranked(set(cluster) - set(dropped))
            dropped |= dict.fromkeys(left[config.per_template :], ("template", left[0]))
    found: dict[int, tuple[str, str]] = {}
    for row, (reason, best) in dropped.items():
        if best in dropped:  # the best of its duplicates went with the template
            best = dropped[best][1]
        found[row] = reason, rows[best].evidence(rows[row])
    return found


def _clusters(pairs: list[tuple[int, int]]) -> list[list[int]]:
    if not pairs:
        return []
    found: dict[int, list[int]] = {}
    for row, label in np.stack(components(np.array(pairs, np.int64)), axis=1).tolist():
        found.setdefault(label, []).append(row)
    return list(found.values())
