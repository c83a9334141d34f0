"""Hex to numbers and back, whatever the dictionary; which problems want a look."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.attempts.index import hex_to_uint64, index_of_batches, merge_indexes
from limo_ray.core.records import ATTEMPT, Verdict, attempts_table, problem_id
from tests.attempts.test_log import JUDGE, OTHER, attempt


@given(st.lists(st.integers(0, 2**128 - 1), max_size=20), st.integers(0, 3))
def test_ids_become_two_numbers(values: list[int], cut: int) -> None:
    texts = pa.array([f"{value:032x}" for value in values], pa.string()).slice(cut)
    found = hex_to_uint64(texts, 2).tolist()
    assert [(high << 64) + low for high, low in found] == values[cut:]


@pytest.mark.parametrize("bad", ["", "0" * 31, "0" * 33, "g" + "0" * 31, None])
def test_what_is_no_id_is_refused(bad: str | None) -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        hex_to_uint64(pa.array(["0" * 32, bad]), 2)


def test_dictionaries_and_plain_columns_are_indexed_alike() -> None:
    table = attempts_table([attempt(name, n) for n in range(3) for name in "pqr"])
    plain = index_of_batches(table.to_batches())
    dictionary = table["problem_id"].dictionary_encode()
    coded = index_of_batches(
        table.set_column(0, "problem_id", dictionary).to_batches(max_chunksize=2)
    )
    for one, other in zip(plain.arrays(), coded.arrays(), strict=True):
        assert one.tolist() == other.tolist()
    assert len(index_of_batches(ATTEMPT.empty_table().to_batches())) == 0


def test_rows_of_a_problem_stay_in_the_order_of_their_logging() -> None:
    indexes = [index_of_batches(attempts_table([attempt(n, i) for n in names]).to_batches())
              for i, names in enumerate(["pq", "q", "pqr"])]  # fmt: skip
    index = merge_indexes(indexes)
    assert (np.diff(index.high.astype(object)) >= 0).all()
    for name, expected in (("p", [0, 2]), ("q", [0, 1, 2]), ("r", [2])):
        rows = index.high == int(problem_id(name)[:16], 16)
        assert index.index[rows].tolist() == expected


def test_only_problems_with_another_key_or_a_failed_check_are_looked_at() -> None:
    rows = [attempt("same", 0), attempt("other", 0), attempt("other", 1, judge=OTHER),
            attempt("failed", 0, Verdict.ERROR)]  # fmt: skip
    index = merge_indexes([index_of_batches(attempts_table(rows).to_batches())])
    names = sorted(["same", "other", "failed", "unknown"], key=problem_id)
    high = np.array([int(problem_id(name)[:16], 16) for name in names], np.uint64)
    judge = np.full(len(names), int(JUDGE, 16), np.uint64)
    found = {name for name, odd in zip(names, index.maybe_stale(high, judge), strict=True) if odd}
    assert found == {"other", "failed"}
    assert not index.maybe_stale(high[:0], judge[:0]).size
