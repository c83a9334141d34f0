"""Replies: the last line, whole, or nothing."""

import json

import pytest

from limo_ray.core.records import Verdict
from limo_ray.verify import unverifiable, verify
from limo_ray.verify.reply import extract, parse

WORDS = json.dumps({"one_of": ["complete", "11"]})
NUMBERS = json.dumps({"integers": [4, 1, 10]})
PARTS = json.dumps({"one_of": ["none"], "parts": "=>"})


@pytest.mark.parametrize(
    ("completion", "extracted"),
    [("So it is.\nAnswer: complete", "complete"), ("**Answer:** 11.", "11."),
     ("<think>Answer: 3</think>\nanswer : `x`  ", "`x`"), ("Answer: **11**", "11"),
     ("Answer: complete\nI think", None), ("The answer is complete", None), ("Answer:", None),
     ("", None), ("My Answer: complete", None)],
)  # fmt: skip
def test_only_the_last_line_is_a_reply(completion: str, extracted: str | None) -> None:
    assert extract(completion) == extracted
    assert extract(completion, complete=False) is None


@pytest.mark.parametrize(
    ("spec", "answer", "value"),
    [(WORDS, "Complete.", "complete"), (WORDS, "`11`", "11"), (WORDS, "complete or not", None),
     (NUMBERS, "7, 3, 5, 8", "7 3 5 8"), (NUMBERS, "7 3 5", None), (NUMBERS, "7 3 5 11", None),
     (NUMBERS, "7 3 5 8.5", None), (PARTS, "None", "none"), (PARTS, "Find x. => 5", "Find x. => 5"),
     (PARTS, "Find x.", None), (PARTS, "a => b => c", None), ('{"text": true}', "any", "any")],
)  # fmt: skip
def test_what_fits_is_a_value(spec: str, answer: str, value: str | None) -> None:
    assert parse(spec, answer) == value
    verdict = verify(spec, f"Answer: {answer}", "reply")
    assert verdict == (Verdict.UNPARSED if value is None else Verdict.CORRECT)


def test_a_malformed_spec_is_an_error_and_no_verdict() -> None:
    assert unverifiable(WORDS, "reply") is None
    assert unverifiable("[]", "reply") and unverifiable("{", "reply")
    assert verify("{", "Answer: x", "reply") is Verdict.ERROR
