"""Line charts: round ticks that hold all values, names that do not touch, bands."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.report.line_chart import Line, line_chart, ticks


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e5))
def test_ticks_are_round_few_and_hold_all_values(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 7
    assert found[0] <= low + span * 1e-6 and found[-1] >= low + span * (1 - 1e-6)
    step = found[1] - found[0]
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(lead == pytest.approx(one, rel=1e-3) for one in (1, 2, 5, 10))


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 0.956, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 2e-5, [0, 5e-6, 1e-5, 1.5e-5, 2e-5]),
        (31, 44, [30, 35, 40, 45]),
        (1, 48, [0, 10, 20, 30, 40, 50]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_of(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


def test_names_stand_apart_beside_lines_that_end_alike() -> None:
    lines = [Line(name=f"arm {n}", css="c0", points=[(1, 5), (8, 5 + n / 100)],
                  band=[(1, 4, 6), (8, 4, 7)], marks=[(1, 4, 5, 6), (8, 4, 5, 7)])
             for n in range(3)]  # fmt: skip
    svg = str(line_chart("t", lines, log_x=True, from_zero=False, beside=True))
    places = sorted(float(y) for y in re.findall(r'class="name c0" x="[\d.]+" y="([\d.]+)"', svg))
    assert len(places) == 3 and min(b - a for a, b in pairwise(places)) >= 12
    assert svg.count("<polygon") == 3 and svg.count("<circle") == 6
    assert "NaN" not in svg and "nan" not in svg
