"""Which benchmark items a question is most like, by its words: candidates for a closer look.

Cosine similarity of tf-idf vectors over words and pairs of words (`text_tokens`). A paraphrase may
share few words with its item, so this ranks and decides nothing. Pure.
"""

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from limo_ray.problems.text_tokens import folded, tokens


def nearest(
    questions: list[str], items: list[str], most: int, least: float = 0.0
) -> list[list[tuple[int, float]]]:
    """For each question the items most like it: (position, similarity in 0 to 1), best first.

    Args:
        questions: n texts.
        items: m texts.
        most: items for each question, at the most.
        least: similarity that they must have; those that share no word never count.
    """
    if not questions or not items:
        return [[] for _ in questions]
    terms: dict[str, int] = {}
    counts = _counts([*items, *questions], terms)
    spread = np.asarray((counts[: len(items)] > 0).sum(axis=0)).ravel()
    counts = counts.multiply(np.log((1 + len(items)) / (1 + spread)) + 1).tocsr()
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    counts = counts.multiply(1 / np.maximum(norms, 1e-12)[:, None]).tocsr()
    alike = (counts[len(items) :] @ counts[: len(items)].T).tocsr()
    found = []
    for row in range(len(questions)):
        start, end = alike.indptr[row], alike.indptr[row + 1]
        pairs = zip(alike.indices[start:end].tolist(), alike.data[start:end].tolist(), strict=True)
        ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        found.append([(item, min(1.0, s)) for item, s in ranked[:most] if s > 0 and s >= least])
    return found


def _counts(texts: list[str], terms: dict[str, int]) -> csr_matrix:
    """How often each term is in each text, (texts, terms); adds new terms."""
    columns, starts = [], [0]
    for text in texts:
        words = [folded(token) for token in tokens(text)]
        for term in [*words, *map(" ".join, pairwise(words))]:
            columns.append(terms.setdefault(term, len(terms)))
        starts.append(len(columns))
    shape = (len(texts), len(terms))
    made = csr_matrix((np.ones(len(columns)), columns, starts), shape=shape)
    made.sum_duplicates()
    return made
