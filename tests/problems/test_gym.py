"""Generated problems: the same rows whatever is asked for around them, and answers that hold."""

import json
from fractions import Fraction

import pytest

from limo_ray.problems import gym
from limo_ray.problems.columns import InvalidRow
from limo_ray.verify import unverifiable

KINDS = ["gcd", "gsm_symbolic", "countdown", "letter_counting", "power_function", "dice"]


def made(kind, begin, end, seed=0, **settings):
    return list(gym.problems(kind, settings, seed, begin, end))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_kind_settings_seed_and_number_only(kind):
    edge = gym.CHUNK - 3
    rows = made(kind, edge, edge + 6)
    assert made(kind, edge + 2, edge + 4) == rows[2:4]
    assert made(kind, 0, 2) == made(kind, 0, 5)[:2]
    assert made(kind, edge, edge + 6, seed=1) != rows
    assert len({row["question"] for row in rows}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_gold_answers_pass_the_verifier(kind):
    for row in made(kind, 0, 4):
        assert unverifiable(row["answer"], row["domain"]) is None, row
        assert json.loads(row["metadata"])["kind"] == kind


def test_settings_change_difficulty_and_rows():
    easy = made("gcd", 0, 20, max_value=20)
    assert all(max(json.loads(r["answer"])["metadata"]["numbers"]) <= 20 for r in easy)
    first = {gym.first_seed("gcd", s, seed) for s in ({}, {"max_value": 20}) for seed in (0, 1)}
    assert len(first) == 4


def test_countdown_is_the_verifiers_own_domain_and_leaves_room_to_think():
    (row,) = made("countdown", 0, 1)
    gold = json.loads(row["answer"])
    assert row["domain"] == "countdown" and gold["use_all"] is True
    assert "Final answer format" not in row["question"]
    assert all(str(n) in row["question"] for n in [gold["target"], *gold["numbers"]])


def test_a_problem_without_a_gold_answer_is_an_invalid_row():
    entry = {"question": "Q", "answer": None, "metadata": {}}
    assert isinstance(gym.problem("rush_hour", entry), InvalidRow)


def test_a_draw_that_fails_costs_its_own_row_only(monkeypatch):
    import reasoning_gym.factory

    class Unlucky(list):
        def __getitem__(self, i):
            if i == 1:
                raise ZeroDivisionError("unlucky")
            return super().__getitem__(i)

    entries = [{"question": f"Q{i}", "answer": "1", "metadata": {}} for i in range(3)]
    monkeypatch.setattr(reasoning_gym.factory, "create_dataset", lambda *_, **__: Unlucky(entries))
    first, failed, last = made("gcd", 0, 3)
    assert (first["question"], last["question"]) == ("Q0", "Q2")
    assert failed.error == "the generator failed: ZeroDivisionError: unlucky"


def test_yaml_lists_do_for_tuples():
    gym.check({"basic_arithmetic": 1}, {"basic_arithmetic": {"operators": ["+", "-"]}})
    rows = made("basic_arithmetic", 0, 5, operators=["+", "-"])
    assert not any("*" in row["question"] for row in rows)


def test_wrong_answers_of_basic_arithmetic_are_invalid_rows():
    rows = made("basic_arithmetic", 0, 200, max_digits=1, allow_parentheses=False)
    wrong = [row for row in rows if isinstance(row, InvalidRow)]
    assert 20 < len(wrong) < 150 and wrong[0].error.startswith("wrong: ")
    for row in rows:
        if not isinstance(row, InvalidRow):
            gold = json.loads(row["answer"])
            assert gym.value(gold["metadata"]["expression"]) == int(gold["answer"])


@pytest.mark.parametrize(
    ("expression", "exact"),
    [
        ("2 + 3 * 4", 14),
        ("-( 5 - -6 ) / 4", Fraction(-11, 4)),
        ("5 - 6 / 4", Fraction(7, 2)),
        ("1 / 0", None),
    ],
)
def test_sums_are_worked_out_exactly(expression, exact):
    assert gym.value(expression) == exact
