"""The four criteria: word boundaries, normalisation, z-scores, weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.curate.quality import Criterion, QualityConfig, measure, score, zscores


def test_keywords_count_at_word_boundaries_whatever_their_case() -> None:
    criterion = Criterion(keywords=["check", "double-check", "let me try"])
    texts = [
        "Check. recheck checks checked",  # one of four words
        "We double-check it",  # once, not twice
        "LET ME TRY",
        "",
    ]
    assert measure(texts, criterion).tolist() == [1000 / 4, 1000 / 3, 1000 / 3, 0]


def test_without_keywords_words_are_counted() -> None:
    assert measure(["one two\nthree", ""], Criterion()).tolist() == [3, 0]


def test_zscores_have_mean_0_and_deviation_1() -> None:
    values = zscores(np.array([1.0, 2.0, 3.0, 10.0]))
    assert values.mean() == pytest.approx(0)
    assert values.std() == pytest.approx(1)
    assert zscores(np.array([4.0, 4.0])).tolist() == [0, 0]


@given(st.lists(st.text(max_size=80), max_size=8))
def test_the_score_is_the_weighted_sum_of_its_columns(texts: list[str]) -> None:
    config = QualityConfig()
    columns = score(texts, config)
    expected = sum(
        criterion.weight * columns[f"score_{name}"] for name, criterion in config.criteria().items()
    )
    assert columns["score"].shape == (len(texts),)
    assert columns["score"] == pytest.approx(expected)


def test_a_longer_verified_chain_scores_higher() -> None:
    plain = "The answer is 4."
    rich = "Perhaps we can add. Therefore 4, since 2 + 2 = 4. Let me check: verify it. " * 5
    columns = score([plain, rich, plain], QualityConfig())
    assert columns["score"].argmax() == 1


def test_weights_must_add_up_to_one() -> None:
    config = QualityConfig()
    config.elaborated.weight = 0.5
    with pytest.raises(ValueError, match=r"^weights: .*elaborated 0\.5.* = 1\.2"):
        config.check()
