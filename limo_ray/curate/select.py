"""From scored chains to the chosen examples: the paper's ranking and its rivals. Pure.

`limo` ranks by score (arXiv 2502.03387v3, section 3.2); `random`, `longest` and `s1` (arXiv
2501.19393, section 2.2) choose from the same candidates for comparison.
"""

from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter
from random import Random

from limo_ray.core.checks import check_at_least, check_one_of
from limo_ray.curate.records import Chain

METHODS = ("limo", "random", "longest", "s1")


@dataclass(kw_only=True, slots=True)
class SelectionConfig:
    method: str = "limo"
    """limo (score), random, longest, or s1 (uniform over groups, long chains likelier)."""
    k: int = 800
    """Examples to select."""
    seed: int = 0
    """Of random and s1."""
    group_by: str = "source"
    """s1: what its domains are: source, domain, metadata.<key>, or annotations.<name> (a
    model's reply; see `annotate`)."""

    def check(self) -> None:
        check_one_of("method", self.method, METHODS)
        check_at_least("k", self.k, 1)


def select(chains: list[Chain], config: SelectionConfig) -> list[Chain]:
    """One chain for each of at most k problems, best first.

    Args:
        chains: candidates. Their order does not matter: ties are broken by id, teacher and index.
    """
    chains = sorted(chains, key=lambda c: (c.problem_id, c.teacher, c.index))
    rng = Random(config.seed)
    by_problem: dict[str, list[Chain]] = defaultdict(list)
    for chain in chains:
        by_problem[chain.problem_id].append(chain)
    if config.method == "random":
        picked = [rng.choice(several) for several in by_problem.values()]
        rng.shuffle(picked)
        return picked[: config.k]
    rank_by = attrgetter("score" if config.method == "limo" else "tokens")
    best = [max(several, key=rank_by) for several in by_problem.values()]
    best.sort(key=lambda c: (-rank_by(c), c.problem_id))
    return _balanced(best, config.k, rng) if config.method == "s1" else best[: config.k]


def _balanced(longest_first: list[Chain], k: int, rng: Random) -> list[Chain]:
    """s1: a group uniformly at random, in it a chain with p proportional to 2^-rank by length."""
    groups: dict[str, list[Chain]] = defaultdict(list)
    for chain in longest_first:
        groups[chain.group].append(chain)
    picked: list[Chain] = []
    while groups and len(picked) < k:
        name = rng.choice(sorted(groups))
        ranked = groups[name]
        rank = min(len(ranked) - 1, _geometric(rng))
        picked.append(ranked.pop(rank))
        if not ranked:
            del groups[name]
    return picked


def _geometric(rng: Random) -> int:
    """0 with probability 1/2, 1 with 1/4, and so on."""
    rank = 0
    while rng.random() < 0.5:
        rank += 1
    return rank
