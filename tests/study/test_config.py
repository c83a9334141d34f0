"""Grids, mistakes in them, and the arms, comparisons and choices that they stand for."""

from pathlib import Path
from typing import Any

import pytest

from limo_ray.core import config as configs
from limo_ray.study.cells import Arm, arms_of, comparisons_of
from limo_ray.study.choice import choose, sources
from limo_ray.study.config import StudyConfig
from limo_ray.study.job import curation_of
from limo_ray.study.outline import outline
from tests.study.stand_ins import arguments, problems

ROOT = Path(__file__).parents[2]


def load(*more: str, **changed: Any) -> StudyConfig:
    return configs.load(StudyConfig, arguments(Path("store"), *more, **changed))


def labels(config: StudyConfig) -> list[str]:
    return [arm.label for arm in arms_of(config)]


def test_a_grid_has_its_random_arms_and_the_untrained_model() -> None:
    config = load("axes={examples: [2, 4], selection: [limo], seed: [0, 1]}")
    assert labels(config) == [
        "untrained", "2 examples, limo", "2 examples, random", "4 examples, limo",
        "4 examples, random",
    ]  # fmt: skip
    assert all(arm.seeds == [0, 1] for arm in arms_of(config) if arm.trained)
    assert labels(load("axes={examples: [2, 4]}", "random_arm=false", "untrained=false")) == [
        "2 examples", "4 examples",
    ]  # fmt: skip


def test_listed_cells_are_multiplied_by_the_axes_that_they_do_not_name() -> None:
    config = load(
        "cells=[{selection: limo, examples: 2}, {selection: random, examples: 9}]",
        "axes={seed: [0, 1], examples: [5]}",
    )
    assert labels(config) == [
        "untrained", "limo, 2 examples", "random, 2 examples", "random, 9 examples"
    ] or sorted(labels(config)) == sorted(
        ["untrained", "2 examples, limo", "2 examples, random", "9 examples, random"]
    )  # fmt: skip


def test_dotted_keys_reach_all_three_schemas() -> None:
    config = load(
        "axes={train.optimizer.lr: [1e-5, 1e-4], evaluate.seed: [0], curate.chains.think: [keep]}"
    )
    arms = [arm for arm in arms_of(config) if arm.trained]
    assert {config.base("train", arm.settings).optimizer.lr for arm in arms} == {1e-5, 1e-4}
    strip = load("axes={curate.chains.think: [keep, strip]}")
    names = {curation_of(strip, arm).name for arm in arms_of(strip) if arm.trained}
    assert len(names) == 2  # another curation; its attempts come from the same log
    same = {curation_of(config, arm).name for arm in arms}
    assert len(same) == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("axes={exmples: [3]}", ["axes.exmples", "did you mean examples"]),
        ("axes={selection: [best]}", ["axes.selection", "'best'", "limo, random"]),
        ("axes={examples: [0]}", ["axes.examples", "0", "from 1"]),
        ("axes={quality: [L6]}", ["'L6'", "L1, L2"]),
        ("axes={difficulty: [hard]}", ["'hard'", "0.25-0.5"]),
        ("axes={seed: []}", ["axes.seed", "no values"]),
        ("axes={train.optimizer.lrr: [1]}", ["train.optimizer.lrr"[6:], "did you mean lr"]),
        ("axes={train.optimizer.lr: [-1]}", ["axes.train.optimizer.lr", "must be positive"]),
        ("cells=[{model: 3}]", ["cells[0]", "model: 3"]),
        ("budget=time", ["budget", "'time'", "steps, tokens, epochs"]),
        ("train.rows.held_out=4", ["rows.held_out must be 0"]),
        ("train.optimiser.lr=1", ["optimiser", "did you mean optimizer"]),
        ("curate.preset=no.yaml", ["curate", "no.yaml", "no such preset"]),
        ("comparisons=[{a: {selction: limo}}]", ["comparisons[0].a", "did you mean selection"]),
        ("buget=steps", ["buget", "did you mean budget"]),
    ],
)
def test_mistakes_are_one_line_that_says_where(override: str, words: list[str]) -> None:
    with pytest.raises(configs.ConfigError) as caught:
        load(override)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_comparison_pairs_each_arm_with_the_same_one_but_for_b() -> None:
    config = load("axes={examples: [2, 4], selection: [limo, s1]}",
                  "comparisons=[{a: {selection: limo}, b: {selection: s1}}, "
                  "{name: trained, a: {examples: 4, selection: s1}, "
                  "b: {untrained: true}}]")  # fmt: skip
    first, second = comparisons_of(config, arms_of(config))
    assert [(a.label, b.label) for a, b in first.pairs] == [
        ("2 examples, limo", "2 examples, s1"), ("4 examples, limo", "4 examples, s1"),
    ]  # fmt: skip
    assert sorted(weight for weight, _ in first.weights()) == [-0.5, -0.5, 0.5, 0.5]
    assert [(a.label, b.label) for a, b in second.pairs] == [("4 examples, s1", "untrained")]
    wrong = load("axes={examples: [2]}", "comparisons=[{a: {examples: 3}, b: {selection: random}}]")
    with pytest.raises(ValueError, match="no arm has the settings of `a`"):
        comparisons_of(wrong, arms_of(wrong))


def chosen(settings: dict[str, Any], *more: str, seed: int = 0) -> list[str]:
    config = load(*more)
    arm = Arm(settings={"selection": "random", "examples": 8} | settings, label="arm")
    given = sources(problems(), [arm])
    chains = choose(arm, seed, given, config.base("curate", {}).selection, config)
    return [chain.problem_id for chain in chains]


def test_arms_choose_from_the_same_candidates() -> None:
    best = chosen({"selection": "limo", "examples": 3})
    assert best == ["p58", "p57", "p55"]  # p59 and p56 the rule has dropped
    assert len(set(chosen({}))) == 8 and chosen({}) != chosen({}, seed=1)
    low, high = ({int(p[1:]) for p in chosen({"quality": band})} for band in ("L1", "L5"))
    assert max(low) < 15 and min(high) > 42
    assert {int(p[1:]) % 3 for p in chosen({"difficulty": "0.5-1"})} == {2}  # solved 3 of 4
    assert {int(p[1:]) % 3 for p in chosen({"set": "pool", "examples": 19})} == {0, 1, 2}
    assert all(int(p[1:]) % 3 < 2 for p in chosen({"set": "kept"}))


def test_too_few_problems_to_choose_from_are_refused() -> None:
    with pytest.raises(ValueError, match=r"arm: 14 examples of 40 problems .* 3 times as many"):
        chosen({"examples": 14})
    assert len(chosen({"examples": 14}, "kept_per_example=2")) == 14
    with pytest.raises(ValueError, match="arm: 50 examples of 8 problems"):
        chosen({"examples": 50, "quality": "L1"})


def test_a_pool_without_chains_of_dropped_problems_is_refused() -> None:
    found = problems()
    found.chains = [chain for chain in found.chains if chain.problem_id in found.kept]
    with pytest.raises(ValueError, match=r"set pool and difficulty need chains .*reuse_strong"):
        sources(found, [Arm(settings={"set": "pool"})])


def test_a_dry_run_names_cells_budget_effect_time_and_cost() -> None:
    text = outline(load("axes={examples: [4], seed: [0, 1]}", "assume.train_tokens_per_s=100",
                        "assume.sample_tokens_per_s=100"), "cpu")  # fmt: skip
    assert "3, 5 cells" in text and "seeds 0, 1" in text
    assert "finds a difference of" in text and "of training" in text
    gpus = outline(load("axes={examples: [4]}", "assume.train_tokens_per_s=1",
                        "assume.sample_tokens_per_s=1", "assume.price_per_gpu_hour=2",
                        "evaluate.engine.device=gpu"), "gpu")  # fmt: skip
    assert "GPU-hours" in gpus and "at 2 each" in gpus
