"""Real completions: the verdicts are math-verify's, except where it is known to be wrong."""

import json
import re
from pathlib import Path

import pytest

from limo_ray.verify import Verdict, unverifiable, verify
from limo_ray.verify.domains import easy, extract

DATA = Path(__file__).parents[3] / "shared" / "data"
COMPLETIONS = DATA / "completions" / "math_cot_100.jsonl"

# Gold answers that math-verify does not read even between dollars.
UNREAD = {"4:30p.."}


def rows(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        pytest.skip(f"no {path.name}: this test wants real data in {DATA}")
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file if line.strip()]


def unboxed(completion: str) -> str:
    """The completion with its answer said plainly instead of in a box."""
    return re.sub(r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", r"\1", completion)


@pytest.mark.parametrize("spelled", [str, unboxed], ids=["boxed", "unboxed"])
def test_verdicts_are_those_of_math_verify(spelled: type[str]) -> None:
    from math_verify import parse
    from math_verify import verify as theirs

    disagreements = []
    for row in rows(COMPLETIONS):
        gold = str(row["gt"])
        parsed = parse(f"${gold}$", parsing_timeout=None)
        for text in dict.fromkeys(row["code"]):  # type: ignore[call-overload]
            if "\\boxed" not in text[-300:]:
                continue  # it goes on after its answer, in one case with noise
            completion = spelled(text)
            expected = theirs(parsed, parse(completion, parsing_timeout=None), timeout_seconds=None)
            verdict = verify(gold, completion)
            assert verdict.judged
            if (verdict is Verdict.CORRECT) != expected:
                disagreements.append((gold, verdict, expected, completion[-200:]))
    # Without a box, math-verify takes "8 kilometers" or "\frac{1}{2}." in \[...\] for no answer.
    improved = [d for d in disagreements if d[1] is Verdict.CORRECT]
    assert [d for d in disagreements if d not in improved and d[0] not in UNREAD] == []
    assert {d[0] for d in improved} <= UNREAD | {"8", "\\frac{1}{2}"}


def test_nearly_all_pairs_take_the_fast_path() -> None:
    pairs = [(str(r["gt"]), extract(c)) for r in rows(COMPLETIONS) for c in r["code"]]  # type: ignore[attr-defined]
    slow = [(gold, said) for gold, said in pairs if said and easy(gold, said, "math") is None]
    assert len(slow) <= len(pairs) // 100


@pytest.mark.parametrize(
    ("name", "unusable"), [("math500", 0), ("aime24", 0), ("amc23", 0), ("gradeschool", 7)]
)
def test_gold_answers_of_benchmarks_are_usable(name: str, unusable: int) -> None:
    answers = [str(row["answer"]) for row in rows(DATA / "benchmarks" / f"{name}.jsonl")]
    reasons = [reason for answer in answers if (reason := unverifiable(answer))]
    assert len(reasons) <= unusable, reasons
    for answer in answers:
        assert verify(answer, f"so it is $\\boxed{{{answer.strip('$')}}}$.") is Verdict.CORRECT
