"""What the promising order saves on a replayed pool, and whether its estimate of that holds.

    python bench/promising_order.py [SIMULATIONS]

The pool: five sources of 4,000 problems with keep rates of 0.2 to 15 %, which also depend on length
and on a noisy published pass rate. Its outcomes are fixed; each simulation is another seeded order.
The truth is what the whole pool gives: all tokens over all keepers.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from limo_ray.curate.promising import LAG, PromisingOrder, cost, design, fair_sample

RATES = (0.002, 0.006, 0.02, 0.06, 0.15)
PER_SOURCE = 4_000
WANTED = 400
CHUNK = 256


def make_pool(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, d), kept (n,), tokens (n,) of a pool."""
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(len(RATES)), PER_SOURCE)
    lengths = rng.lognormal(5, 0.6, len(source))
    hidden = rng.normal(0, 1, len(source))
    odds = np.log(np.array(RATES) / (1 - np.array(RATES)))[source] - 0.35
    odds += 0.5 * (np.log(lengths) - 5) / 0.6 + 0.6 * hidden
    kept = rng.random(len(source)) < 1 / (1 + np.exp(-odds))
    published = 1 / (1 + np.exp(hidden + rng.normal(0, 1, len(source))))
    published[rng.random(len(source)) < 0.3] = np.nan
    attempts = np.where(kept, 32, rng.integers(4, 33, len(source)))
    tokens = (attempts * rng.lognormal(7, 0.5, len(source)) * lengths**0.3).astype(int)
    return design([source], lengths, [published]), kept, tokens


def simulate(
    features: np.ndarray, kept: np.ndarray, tokens: np.ndarray, seed: int, share: float = 0.1
) -> tuple[float, float | None, float | None, float | None]:
    """Tokens per keeper in the promising order; estimate and interval for the random one."""
    shuffled = np.random.default_rng(seed).permutation(len(kept))
    features, kept, tokens = features[shuffled], kept[shuffled], tokens[shuffled]
    order = PromisingOrder(features, CHUNK, share)
    done = np.zeros(0, int)
    while kept[done].sum() < WANTED:
        for late in order.chunks[: 1 - LAG][-1:]:  # what is decided while the last one is sampled
            order.add(late, kept[late])
        rows = order.chunk(len(order.chunks))
        if rows is None or not len(rows):
            break
        done = np.concatenate([done, rows])
    last = np.searchsorted(np.cumsum(kept[done]), WANTED)
    done = done[: last + 1]
    sampled = np.zeros(len(kept), bool)
    sampled[done] = True
    fair = fair_sample(sampled)
    found = cost(tokens[:fair], kept[:fair], len(kept))
    return tokens[done].sum() / kept[done].sum(), found.per_keeper, found.low, found.high


def main(simulations: int) -> None:
    features, kept, tokens = make_pool()
    truth = tokens.sum() / kept.sum()
    begun, covered, savings, errors = time.time(), 0, [], []
    for seed in range(simulations):
        promising, estimate, low, high = simulate(features, kept, tokens, seed)
        covered += low is not None and low <= truth <= high
        savings.append(truth / promising)
        errors.append((estimate or np.nan) / truth - 1)
    rates = kept.reshape(len(RATES), -1).mean(axis=1)
    print(f"pool: {len(kept):,} problems, keep rates {', '.join(f'{r:.1%}' for r in rates)}")
    print(f"random order: {truth:,.0f} tokens per keeper")
    print(f"promising order: {np.median(savings):.2f} times fewer (central 95 %: "
          f"{np.percentile(savings, 2.5):.2f} to {np.percentile(savings, 97.5):.2f})")  # fmt: skip
    print(f"interval covers the truth in {covered / simulations:.1%} of {simulations} simulations; "
          f"mean error of the estimate {np.nanmean(errors):+.1%}")  # fmt: skip
    print(f"{time.time() - begun:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
