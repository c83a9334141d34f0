"""Benchmark items that read like a question."""

import pytest

from limo_ray.problems.nearest import nearest


def test_the_nearest_items_share_the_rarest_words() -> None:
    items = ["What is the sum of two dice?", "A train leaves Paris at noon.", "Find the prime 7."]
    found = nearest(["At noon a train leaves for Rome.", "zzz"], items, most=2)
    assert found[0][0][0] == 1 and found[1] == []
    assert nearest(items, items, most=1, least=0.99) == [
        [(i, pytest.approx(1.0))] for i in range(3)
    ]
