"""Units: the same in other words, dropped where one answer has none, WRONG where they differ."""

import pytest

from limo_ray.verify import Verdict, verify

SAME = [
    ("81 km/h", "81 kilometers per hour"),
    ("81 km/h", "81 km/hr"),
    ("81 km/h", "81 (km/h)"),
    ("81 mph", "81 miles per hour"),
    ("5 hours", "5 h"),
    ("5 (hours)", "5h"),
    ("5 hours", "5 Hours"),
    ("5\\text{ cm}", "5\\text{ centimeters}"),
    ("3 feet", "3 ft"),
    ("20\\text{ cm}^2", "20\\text{ square cm}"),
    ("4 (plums)", "4 plum"),
    ("4 (Plums)", "4 \\text{ plums}"),
    ("1 (box)", "1 boxes"),
    ("2 (berries)", "2 berry"),
    ("5 (women)", "5 woman"),
    ("9 (red apples)", "9 (apples)"),
    # One has a unit, the other has none.
    ("81 km/h", "81"),
    ("4 (plums)", "4"),
    ("4 (plums)", "\\$4"),
    ("7 km", "7"),
    # What is counted, in other words: not in brackets, and no unit of measure.
    ("5 people", "5 students"),
    ("5\\text{ students}", "5\\text{ people}"),
    ("4:30 PM", "4:30\\text{ p.m.}"),
]
DIFFERENT = [
    ("81 days", "81 km/h"),
    ("81 km", "81 km/h"),
    ("81 miles per hour", "81 km/h"),
    ("4 (cents)", "4 (plums)"),
    ("4 (cents)", "4 plums"),
    ("2 (small groups)", "2 (small trucks)"),
    ("30 (feet of rope)", "30 (bars of soap)"),
    ("700 meters", "700 kilometers"),
    ("5\\text{ cm}", "5\\text{ m}"),
    ("20\\text{ cm}^2", "20\\text{ km}^{2}"),
    ("20 min", "20 hrs"),
    ("\\frac{1}{2}\\text{ hours}", "\\frac{1}{2}\\text{ days}"),
]


def judged(gold: str, said: str) -> list[Verdict]:
    return [verify(a, f"\\boxed{{{b}}}") for a, b in ((gold, said), (said, gold))]


@pytest.mark.parametrize(("gold", "said"), SAME)
def test_the_same_unit_or_none_is_correct(gold: str, said: str) -> None:
    assert judged(gold, said) == [Verdict.CORRECT] * 2


@pytest.mark.parametrize(("gold", "said"), DIFFERENT)
def test_another_unit_is_wrong(gold: str, said: str) -> None:
    assert judged(gold, said) == [Verdict.WRONG] * 2


def test_a_gold_answer_with_a_unit_is_accepted_against_itself() -> None:
    for gold, said in (*SAME, *DIFFERENT):
        assert judged(gold, gold) == judged(said, said) == [Verdict.CORRECT] * 2
