"""The answer that a completion gives."""

import time

import pytest

from limo_ray.verify import extract


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (
            r"first \boxed{1}, but, a long while later, after much more thought, and a check of "
            r"each step, \boxed{2}",
            "2",
        ),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{ 1, \frac{2}{3} \right\}}", r"\left\{ 1, \frac{2}{3} \right\}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{1} and \boxed{2}", "1,2"),
        (r"put it in \boxed{}: \boxed{3}, that is \boxed{}", "3"),
        (r"\boxed{3} and \boxed{\phantom{2}}", "3"),
        (r"\boxed{5} then \boxed{6", "5"),  # a box that is not closed is no box
        ("The final answer is $x = 3$. I hope it is correct.", "x = 3"),
        ("The final answer is 12.", "12"),
        ("The final answer is $\\$18.90$.", r"\$18.90"),
        ("It is $5 + 3 = 8$, not \\$9 or \\$7", "$7"),
        ("**Final answer:** 3.5", "3.5"),
        ("so the answer is: 7 apples.", "7 apples"),
        ("Answer: \\(\\frac{3}{4}\\)", r"\frac{3}{4}"),
        ("She has 3 + 4 = 7.\n#### 7", "7"),
        ("So, the final answer is 3 + 1 = 4.", "4"),
        ("My final answer is 3 + 1 = 2 + 2 = 4.", "4"),
        ("The answer is that 2 * 9 equals 18.", "18"),
        ("The final answer to it is: (5 - 5) = 0.", "0"),
        ("The final answer is 7 * 8 = 54 apples", "54"),
        ("The final answer is 0.6 - 2.9 by the rule of signs.", "0.6 - 2.9"),
        ("Your final answer is still 16.", "16"),
        ("The answer is 5 or 6", "5 or 6"),
        ("the answer is the track team of the men", "the track team of the men"),
        ("2 * 8 = 16\nThe answer is provided to you within the specified format.", "16"),
        ("k = 10920 * (1/840)\n\nSo, k = ", "10920 * (1/840)"),
        ("We have 113*b = 113*1 ", "113*1"),
        ("multiplied by itself (2*2*2*2). That is it.", "(2*2*2*2)"),
        ("which is (8*1 + x", "1"),
        ("<answer> 12 </answer>", "12"),
        ("We get 3 and then 12 apples", "12"),
        ("We get $a$ and then $b+1$.", "b+1"),
        ("which is \\frac{3}{4}.", r"\frac{3}{4}"),
        ("arrive at 4:30 p.m.", "4:30 p.m."),
        ("thinking \\boxed{1}</think>The final answer is 2", "2"),
        ("<think>thinking \\boxed{1}", "1"),  # no closing tag, no split
        ("The answer is that there are 5 red apples in it.", "5"),
        ("The answer is that all of the $x^2$ are even.", "x^2"),
        ("Answer: the quick brown fox", "the quick brown fox"),
        ("nothing here", None),
        ("", None),
    ],
)
def test_the_answer_is_found(completion: str, answer: str | None) -> None:
    assert extract(completion) == answer


def test_after_the_thinking_only() -> None:
    assert extract("\\boxed{1}</think> I am not sure.") is None


def test_an_unfinished_chain_has_explicit_answers_only() -> None:
    assert extract("so we have 3 + 4 = 7 and", complete=False) is None
    assert extract("so we have 3 + 4 = 7 and") == "7"
    assert extract("it is \\boxed{7}. Let me check", complete=False) == "7"
    assert extract("the final answer is 7.", complete=False) == "7"
    assert extract("the final answer is 7", complete=False) is None  # or 70, or 7.5
    assert extract("<answer> 7 + ", "countdown", complete=False) is None
    assert extract("<answer> 7 + 1 </answer>", "countdown", complete=False) == "7 + 1"


@pytest.mark.parametrize(
    "completion",
    [
        "\\boxed{" * 150_000,
        "\\boxed{" * 50_000 + "1" + "}" * 50_000,
        "$" * 1_000_000,
        "\\(" * 500_000,
        "7" * 1_000_000,
        "answer is " * 100_000,
        "<answer>" * 100_000,
        "{" * 1_000_000,
        " " * 1_000_000,
        "```python\n" * 100_000,
        "1 - " * 250_000,
    ],
    ids=lambda text: text[:12].strip(),
)
@pytest.mark.parametrize("domain", ["math", "choice", "countdown", "gym", "code"])
def test_a_megabyte_takes_no_time(completion: str, domain: str) -> None:
    began = time.process_time()
    extract(completion, domain)
    assert time.process_time() - began < 1.0


def test_an_unknown_domain_is_named() -> None:
    with pytest.raises(ValueError, match="poetry"):
        extract("\\boxed{1}", "poetry")
