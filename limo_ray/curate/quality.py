"""The paper's quality score of a reasoning chain (arXiv 2502.03387v3, section 3.2). Pure.

Four criteria, each z-scored over all candidate chains before the weighted sum. The weights are
published; the full keyword lists and the scaling are not, so those here are our choice. A fifth
one, a model's rating, has the weight 0 unless a config gives it another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from limo_ray.core.checks import check_at_least


@dataclass(kw_only=True, slots=True)
class Criterion:
    weight: float = 0.0
    """Its share of the score; those of all criteria add up to 1."""
    keywords: list[str] = field(default_factory=list)
    """Words and phrases counted at word boundaries, whatever their case; empty counts words."""

    def check(self) -> None:
        check_at_least("weight", self.weight, 0)
        if any(not keyword.strip() for keyword in self.keywords):
            raise ValueError("keywords: an empty keyword would match everywhere")


def _verification() -> Criterion:
    words = ["check", "verify", "verification", "confirm", "double-check", "make sure", "recheck"]
    return Criterion(weight=0.20, keywords=words)


def _exploratory() -> Criterion:
    words = ["perhaps", "might", "maybe", "alternatively", "wait", "what if", "let me try"]
    return Criterion(weight=0.25, keywords=words)


def _granularity() -> Criterion:
    words = ["therefore", "since", "because", "thus", "hence", "so that", "it follows"]
    return Criterion(weight=0.25, keywords=words)


@dataclass(kw_only=True, slots=True)
class QualityConfig:
    elaborated: Criterion = field(default_factory=lambda: Criterion(weight=0.30))
    """Elaborated Reasoning: the chain's length in words."""
    verification: Criterion = field(default_factory=_verification)
    """Self-Verification; "check" and "verify" are the paper's examples."""
    exploratory: Criterion = field(default_factory=_exploratory)
    """Exploratory Approach; "perhaps" and "might" are the paper's examples."""
    granularity: Criterion = field(default_factory=_granularity)
    """Adaptive Granularity; "therefore" and "since" are the paper's examples."""
    rating: float = 0.0
    """Weight of a model's rating of the chain (`annotate`, kind rating); not of the paper."""

    def criteria(self) -> dict[str, Criterion]:
        return {
            "elaborated": self.elaborated,
            "verification": self.verification,
            "exploratory": self.exploratory,
            "granularity": self.granularity,
        }

    def check(self) -> None:
        weights = {name: criterion.weight for name, criterion in self.criteria().items()}
        check_at_least("rating", self.rating, 0)
        weights |= {"rating": self.rating} if self.rating else {}
        if abs(sum(weights.values()) - 1) > 1e-6:
            shares = " + ".join(f"{name} {weight:g}" for name, weight in weights.items())
            raise ValueError(f"weights: {shares} = {sum(weights.values()):g}, must add up to 1")
        for name, criterion in self.criteria().items():
            if name != "elaborated" and not criterion.keywords:
                raise ValueError(f"{name}.keywords: must not be empty")


def measure(texts: list[str], criterion: Criterion) -> np.ndarray:
    """One criterion's raw value for each text, shape (n,): words, or keywords per 1,000 words."""
    words = np.array([len(text.split()) for text in texts], dtype=float)
    if not criterion.keywords:
        return words
    # longer phrases first, so that "double-check" is not also counted as "check"
    alternatives = sorted(criterion.keywords, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, alternatives))})(?!\w)", re.I)
    counts = np.array([len(pattern.findall(text)) for text in texts], dtype=float)
    return 1000 * counts / np.maximum(words, 1)


def zscores(values: np.ndarray) -> np.ndarray:
    """Distance from the mean in standard deviations; all zero where there is no spread."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def score(
    texts: list[str], config: QualityConfig, ratings: Sequence[float | None] = ()
) -> dict[str, np.ndarray]:
    """`score` and one `score_<criterion>` z-score per criterion, each of shape (n,).

    Args:
        texts: n chains.
        ratings: a model's, of each, if there are any; one without gets the mean of the others.
    """
    if not texts:
        return {name: np.zeros(0) for name in ["score", *map("score_{}".format, config.criteria())]}
    columns = {
        f"score_{name}": zscores(measure(texts, criterion))
        for name, criterion in config.criteria().items()
    }
    total = sum(
        criterion.weight * columns[f"score_{name}"] for name, criterion in config.criteria().items()
    )
    if any(rating is not None for rating in ratings):
        known = [rating for rating in ratings if rating is not None]
        mean = float(np.mean(known))
        values = np.array([mean if rating is None else rating for rating in ratings])
        columns["score_rating"] = zscores(values)
        total = total + config.rating * columns["score_rating"]
    return {"score": np.asarray(total), **columns}
