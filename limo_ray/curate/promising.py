"""The promising order: problems by their predicted chance to be kept, and what that saves. Pure.

Problems come in chunks. Most of a chunk are those with the best predicted chance; a share are the
next ones in the seeded random order, so that the first problems of that order are a fair sample of
the pool, whatever the model prefers. A chunk depends on the decisions of the chunks up to two
before it and on nothing else: the order is the same after a crash, and no engine waits for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LAG = 2  # chunks that are chosen before the first decisions are known


def fit(features: np.ndarray, kept: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Weights (d,) of a logistic regression, by Newton's method with a ridge penalty.

    Args:
        features: (n, d), the first column all 1: its weight is not penalised.
        kept: (n,) bool.
    """
    weights = np.zeros(features.shape[1])
    penalty = np.full(features.shape[1], ridge)
    penalty[0] = 1e-6
    for _ in range(30):
        chance = chances(features, weights)
        gradient = features.T @ (kept - chance) - penalty * weights
        spread = np.maximum(chance * (1 - chance), 1e-9)
        curvature = features.T @ (features * spread[:, None]) + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights += step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))  # no leap at the start
        if np.abs(step).max() < 1e-6:
            break
    return weights


def chances(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Predicted chance (n,) to be kept."""
    return 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))


def design(groups: list[np.ndarray], lengths: np.ndarray, rates: list[np.ndarray]) -> np.ndarray:
    """Features (n, d) of problems: a constant, groups, length, rates.

    Args:
        groups: codes (n,) of source, domain, ...; one column for each code but the commonest.
        lengths: (n,) of the questions, in characters.
        rates: pass rates (n,) from elsewhere, nan where there is none.
    """
    columns = [np.ones(len(lengths))]
    for codes in groups:
        values, counts = np.unique(codes, return_counts=True)
        others = values[values != values[np.argmax(counts)]] if len(values) else values
        columns += [(codes == value).astype(float) for value in others]
    logs = np.log1p(lengths.astype(float))
    logs = (logs - logs.mean()) / max(logs.std(), 1e-9) if len(logs) else logs
    columns += [logs, logs**2]
    for rate in rates:
        known = np.isfinite(rate)
        value = np.where(known, rate, 0.5) - 0.5
        columns += [known.astype(float), value, value**2]
    return np.stack(columns, axis=1)


class PromisingOrder:
    """Which problem comes next. A row is a problem's place in the seeded random order."""

    def __init__(self, features: np.ndarray, chunk: int, random_share: float) -> None:
        """
        Args:
            features: (n, d), one row for each problem, in the seeded random order.
            chunk: problems that are chosen at once.
            random_share: of them, those that come in the seeded order.
        """
        self.features = features
        self.size = chunk
        self.random_share = random_share
        self.chunks: list[np.ndarray] = []
        self.decided = np.zeros(len(features), bool)
        self.kept = np.zeros(len(features), bool)
        self._chosen = np.zeros(len(features), bool)
        self._next = 0  # the first row of the seeded order that was not looked at

    def add(self, rows: np.ndarray, kept: np.ndarray) -> None:
        """Adds decisions."""
        self.decided[rows] = True
        self.kept[rows] = kept

    def chunk(self, number: int) -> np.ndarray | None:
        """The rows of a chunk in their order; None while decisions that it depends on are missing.

        Empty after the last problem.
        """
        while len(self.chunks) <= number:
            before = self.chunks[: max(0, len(self.chunks) - LAG + 1)]
            known = np.concatenate(before) if before else np.zeros(0, int)
            if not self.decided[known].all():
                return None
            self.chunks.append(self._choose(known))
        return self.chunks[number]

    def _choose(self, known: np.ndarray) -> np.ndarray:
        """The next chunk, from the decisions of the known rows."""
        size = min(self.size, int((~self._chosen).sum()))
        if not self.kept[known].any():  # nothing to learn from yet
            return np.array([self._take_random() for _ in range(size)], int)
        weights = fit(self.features[known], self.kept[known])
        open_rows = np.flatnonzero(~self._chosen)
        best = open_rows[np.argsort(-chances(self.features[open_rows], weights), kind="stable")]
        promising = iter(best[: 2 * self.size].tolist())
        rows: list[int] = []
        for place in range(size):
            due = int((place + 1) * self.random_share) > int(place * self.random_share)
            rows.append(self._take_random() if due else self._take(promising))
        return np.array(rows, int)

    def _take(self, rows: Iterator[int]) -> int:
        row = next(row for row in rows if not self._chosen[row])
        self._chosen[row] = True
        return row

    def _take_random(self) -> int:
        while self._chosen[self._next]:
            self._next += 1
        self._chosen[self._next] = True
        return self._next


@dataclass(kw_only=True, slots=True)
class Cost:
    """Tokens per kept problem, and its 95 % interval; None where nothing was kept."""

    problems: int
    kept: int
    tokens: int
    per_keeper: float | None
    low: float | None
    high: float | None


def cost(tokens: np.ndarray, kept: np.ndarray, pool: int) -> Cost:
    """Of a fair sample of a pool: the ratio that the whole pool would have.

    The interval is that of the ratio's logarithm, by linearisation, with the correction for a
    finite pool (Cochran, Sampling Techniques, sections 6.3 and 6.5).

    Args:
        tokens: (m,) spent on each sampled problem.
        kept: (m,) bool.
        pool: problems in the pool.
    """
    count, keepers, total = len(tokens), int(kept.sum()), int(tokens.sum())
    if not keepers or count < 2 or not total:
        return Cost(
            problems=count, kept=keepers, tokens=total, per_keeper=None, low=None, high=None
        )
    ratio = total / keepers
    residual = tokens / tokens.mean() - kept / kept.mean()
    error = residual.std(ddof=1) * np.sqrt(max(0.0, 1 - count / pool) / count)
    spread = float(np.exp(1.96 * error))
    return Cost(
        problems=count, kept=keepers, tokens=total, per_keeper=ratio, low=ratio / spread,
        high=ratio * spread,
    )  # fmt: skip


def fair_sample(sampled: np.ndarray) -> int:
    """How many problems at the beginning of the seeded order were all sampled.

    Args:
        sampled: (n,) bool, in the seeded order.
    """
    return int(np.argmin(sampled)) if not sampled.all() else len(sampled)
