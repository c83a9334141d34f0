"""Selection methods: one chain per problem, k of them, the same for the same seed."""

from collections import Counter
from random import Random

import pytest

from limo_ray.curate.records import Chain
from limo_ray.curate.select import METHODS, SelectionConfig, select


def chains(problems: int = 60, each: int = 3) -> list[Chain]:
    rng = Random(0)
    return [
        Chain(
            problem_id=f"p{number:03}", teacher="t", index=index, solution="",
            tokens=rng.randrange(10, 1000), scores={"score": rng.gauss(0, 1)},
            group="large" if number % 6 else "small",
        )
        for number in range(problems)
        for index in range(each)
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_one_chain_per_problem_and_no_more_than_k(method: str) -> None:
    some = chains()
    picked = select(some, SelectionConfig(method=method, k=20, seed=1))
    assert len(picked) == 20
    assert len({chain.problem_id for chain in picked}) == 20
    Random(5).shuffle(some)
    assert select(some, SelectionConfig(method=method, k=20, seed=1)) == picked


@pytest.mark.parametrize("method", METHODS)
def test_too_few_candidates_give_what_there_is(method: str) -> None:
    assert len(select(chains(7), SelectionConfig(method=method, k=20))) == 7
    assert select([], SelectionConfig(method=method, k=20)) == []


def test_limo_takes_the_best_chain_of_each_problem_and_ranks_them() -> None:
    some = chains()
    best = {}
    for chain in some:
        name = chain.problem_id
        best[name] = max(best.get(name, chain.score), chain.score)
    expected = sorted(best.values(), reverse=True)[:20]
    picked = select(some, SelectionConfig(method="limo", k=20))
    assert [chain.score for chain in picked] == expected


def test_longest_ranks_by_tokens() -> None:
    picked = select(chains(), SelectionConfig(method="longest", k=5))
    lengths = [chain.tokens for chain in picked]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == max(chain.tokens for chain in chains())


def test_s1_balances_groups_and_prefers_length() -> None:
    """10 of the 60 problems are in the small group: half of the first picks are theirs."""
    groups, ranks = Counter(), Counter()
    lengths = sorted((c.tokens for c in select(chains(), SelectionConfig(method="longest",
                      k=60)) if c.group == "large"), reverse=True)  # fmt: skip
    for seed in range(400):
        first = select(chains(), SelectionConfig(method="s1", k=1, seed=seed))[0]
        groups[first.group] += 1
        if first.group == "large":
            ranks[lengths.index(first.tokens)] += 1
    assert 160 < groups["small"] < 240
    assert 0.4 < ranks[0] / groups["large"] < 0.6, "the longest has p = 1/2"


def test_another_seed_selects_others() -> None:
    first = select(chains(), SelectionConfig(method="random", k=10, seed=1))
    assert first != select(chains(), SelectionConfig(method="random", k=10, seed=2))
