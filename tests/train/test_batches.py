"""Batches and layouts: nothing lost, nothing twice, everybody as busy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.train.batches import IGNORED, Schedule, pack, packed_row, pad, padded_row
from limo_ray.train.tokens import Tokens

LENGTHS = st.lists(st.integers(2, 50), min_size=1, max_size=60)


def tokens(length: int, first: int = 10) -> Tokens:
    return Tokens(ids=np.arange(first, first + length, dtype=np.int32),
                  learn=np.arange(length) >= length // 2)  # fmt: skip


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(40, 200),
       st.integers(1, 30), st.integers(0, 9))  # fmt: skip
def test_steps_of_so_many_tokens_learn_as_much_whatever_the_examples(
    targets: list[int], tokens: int, steps: int, seed: int
) -> None:
    schedule = Schedule(
        examples=len(targets), batch=8, epochs=steps, max_steps=steps, seed=seed, tokens=tokens,
        targets=tuple(targets),
    )  # fmt: skip
    chosen = [schedule.batch_of(step) for step in range(schedule.steps)]
    assert len(chosen) == steps and all(chosen)
    learned = sum(targets[one] for batch in chosen for one in batch)
    assert abs(learned - steps * tokens) <= max(targets) / 2
    # every example as often as any other, give or take the epoch that is not whole, and the last
    times = np.bincount([one for batch in chosen for one in batch][:-1], minlength=len(targets))
    assert times.max() - times.min() <= 1


def test_trainings_on_other_examples_learn_as_many_tokens_within_three_in_a_thousand() -> None:
    for seed in range(20):
        targets = np.random.default_rng(seed).integers(20, 128, 64)
        schedule = Schedule(
            examples=64, batch=8, epochs=100, max_steps=12, seed=seed, tokens=578,
            targets=tuple(targets.tolist()),
        )  # fmt: skip
        learned = sum(targets[one] for step in range(12) for one in schedule.batch_of(step))
        assert abs(learned / (12 * 578) - 1) < 3e-3


def test_a_step_of_fewer_tokens_than_an_example_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch.tokens: 30 .* \(31\)"):
        Schedule(examples=2, batch=1, epochs=1, max_steps=0, seed=0, tokens=30, targets=(4, 31))


@given(LENGTHS, st.integers(1, 8))
def test_packing_has_each_example_once_and_room_for_all(lengths: list[int], groups: int) -> None:
    found = pack(dict(enumerate(lengths)), groups, 50)
    assert len(found) == groups
    assert len({len(rows) for rows in found}) == 1
    assert sorted(one for rows in found for row in rows for one in row) == list(range(len(lengths)))
    assert all(sum(lengths[one] for one in row) <= 50 for rows in found for row in rows)


@given(LENGTHS, st.integers(1, 8), st.integers(1, 5))
def test_padding_has_each_example_once(lengths: list[int], groups: int, micro: int) -> None:
    found = pad(dict(enumerate(lengths)), groups, micro)
    assert len({len(rows) for rows in found}) == 1
    assert sorted(one for rows in found for row in rows for one in row) == list(range(len(lengths)))
    assert all(len(row) <= micro for rows in found for row in rows)


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 4), st.integers(0, 9))
def test_each_epoch_has_every_example_once(
    examples: int, batch: int, epochs: int, seed: int
) -> None:
    schedule = Schedule(examples=examples, batch=batch, epochs=epochs, max_steps=0, seed=seed)
    for epoch in range(epochs):
        steps = range(epoch * schedule.per_epoch, (epoch + 1) * schedule.per_epoch)
        assert sorted(one for step in steps for one in schedule.batch_of(step)) == list(
            range(examples)
        )
    assert schedule.steps == epochs * schedule.per_epoch


def test_epochs_have_another_order_and_max_steps_ends() -> None:
    schedule = Schedule(examples=100, batch=100, epochs=3, max_steps=2, seed=0)
    assert schedule.batch_of(0) != schedule.batch_of(1)
    assert schedule.steps == 2


@pytest.mark.parametrize("multiple", [1, 4])
def test_a_packed_row(multiple: int) -> None:
    row = packed_row([tokens(5), tokens(2, 50)], multiple)
    assert row.ids.shape[1] == (7 if multiple == 1 else 8)
    assert row.ids[0, :7].tolist() == [10, 11, 12, 13, 14, 50, 51]
    assert row.positions[0, :7].tolist() == [0, 1, 2, 3, 4, 0, 1]
    # the last token of an example predicts nothing, least of all the next example's first
    assert row.labels[0, :7].tolist() == [IGNORED, 12, 13, 14, IGNORED, 51, IGNORED]
    assert (row.labels[0, 7:] == IGNORED).all()
    assert row.bounds is not None
    assert row.bounds.tolist() == ([0, 5, 7] if multiple == 1 else [0, 5, 7, 8])
    assert row.tokens == 7


def test_padded_rows_and_rows_without_examples() -> None:
    row = padded_row([tokens(4), tokens(2, 50)])
    assert row.ids.tolist() == [[10, 11, 12, 13], [50, 51, 0, 0]]
    assert row.labels.tolist() == [[IGNORED, 12, 13, IGNORED], [51, IGNORED, IGNORED, IGNORED]]
    assert (padded_row([]).labels == IGNORED).all()
    assert packed_row([], 4).ids.shape == (1, 4)
