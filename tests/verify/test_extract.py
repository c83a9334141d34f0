"""The answer that a completion gives."""

import random
import time

import pytest

from limo_ray.verify import Verdict, extract, verify
from limo_ray.verify.domains import easy, forget


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


B = "\\boxed{%s}".__mod__
RIGHT = [
    # Thousands and decimals in every spelling, without a box.
    ("1000", "It costs 1 000"),
    ("1000", "#### 1 000"),
    ("1000", "we get 1\u202f000 apples"),
    ("12345.67", "we get 12\u00a0345,67 \u20ac"),
    ("12345", "= 12\\,345"),
    ("1000", "= 1{,}000"),
    ("1000000", "1.000.000"),
    ("1234.56", "The answer is 1.234,56 \u20ac"),
    ("1234567.89", "total 1,234,567.89"),
    ("0.4", "So .4"),
    ("-0.5", "x = -.5"),
    ("1/2", "it is 0,5"),
    ("0.125", "12,5 %"),
    ("7/2", "therefore 3 1/2"),
    ("2.5", "so it's 2\u00bd"),
    ("1,2,3", "we have 1,2,3"),
    ("7", "1 200, 1 300, then 7"),
    # Currencies.
    ("2.74", "Total: 2,74 $"),
    ("2.74", "The final answer is 2,74 $."),
    ("2.74", "costs 5 $ and then 2,74 $"),
    ("10", "It costs $5 and then $10"),
    ("5000", "5 000 $"),
    ("5000", "$5 000"),
    ("18", B("18,00 \u20ac")),
    ("5", B("5 USD")),
    ("780", B("Rs. 780")),
    # In a box.
    ("1,22", B("1.22")),
    ("1.22", B("1,22")),
    ("0,125", B("1/8")),
    ("12.5 km", B("12,5 km")),
    ("12,5\\%", B("12.5\\%")),
    ("1234.5", B("1 234,5")),
    ("1,234.5", B("1234.5")),
    ("1,2", B("2,1")),
    # Units and words around it.
    ("5", B("5 km/h")),
    ("5", B("5^\\circ\\text{C}")),
    ("6", B("6 (inches)")),
    ("42", "Answer is 42 (forty-two)"),
    ("5", "The answer is \\text{5 cm}."),
    ("5", "**Answer:** 5"),
    ("5", "**Answer: 5**"),
    ("5", "Answer: `5`"),
    ("3, 4, 5", "The answers are 3, 4 and 5."),
    # A box, and what is said after it.
    ("10455", B("3") + ".\nFinal Answer: The final answer is $10,455$. I hope it is correct."),
    ("6", B("5") + "\n\n**Final Answer:** 6"),
    ("6", B("5") + "\n#### 6"),
    ("5", B("5") + ". The final answer is in step 6."),
    ("5", B("5") + ". So the final answer is correct."),
    ("5", B("5") + ". The answer is 6 times what we had."),
    ("6", B("5") + "The final answer is $" + B("6") + "$"),
]
NOT_RIGHT = [
    ("22", "it is 1,22"),
    ("000", "It costs 1 000"),
    ("74", "Total: 2,74 $"),
    ("1.222", B("1,222")),
    ("1222", B("1.222")),
    ("1, 22", B("1.22")),
    ("1.22", B("1, 22")),
    ("12", B("1,2")),
    ("125", B("0,125")),
    ("3", B("3,5")),
    ("(1,22)", B("(1.22)")),
    ("2", B("2 1/2")),
    ("3", B("3 hundred")),
    ("5", B("5 x")),
    ("5", B("5 (mod 7)")),
    ("3", B("3") + ".\nFinal Answer: The final answer is $10,455$. I hope it is correct."),
]


@pytest.mark.parametrize(("gold", "completion"), RIGHT)
def test_right_answers(gold: str, completion: str) -> None:
    assert verify(gold, completion) is Verdict.CORRECT


@pytest.mark.parametrize(("gold", "completion"), NOT_RIGHT)
def test_wrong_answers(gold: str, completion: str) -> None:
    assert verify(gold, completion) is Verdict.WRONG


def test_a_final_answer_that_was_cut_off_takes_nothing_back() -> None:
    assert extract(B("5") + ". The final answer is 6", complete=False) == "5"
    assert extract(B("5") + ". The final answer is 6.", complete=False) == "6"
    assert extract(B("B") + " Final answer: C", "choice") == "C"


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
    began = time.thread_time()
    extract(completion, domain)
    assert time.thread_time() - began < 5  # 0.1 s; read over and over, it takes minutes


# What the patterns of extraction and of the fast path are made of.
FRAGMENTS = [
    "```", "```python\n", " ", "\n", "\\boxed{1}", "\\boxed{1} and ", "\\boxed{", "\\boxed",
    "\\fbox{2},", "$", "$x$ ", "\\(x", "\\[", "7", "7 ", "1 000 ", "1,000,", "1.000.", "1,2",
    "1/", "(1+", "1 - ", "- ", "answer is ", "Answer: 5. ", "final answer ",
    "final answer is 5\n", "####", "<answer>", "then ", "= 4 ", "is equal to ", "{", "}",
    "{}", "\\frac{1}{2}", "\\frac", "\\text{", "(A)", "A. ", "box", ".", "\\phantom{", "_",
    "*", "\\", "\\\\", "0.", "^\\circ", "1:23", "and ", ",", "; ", "word ", "\\,",
    "</think>", "\u4e94", "\u00bd", "5%", "\\overline{3", "\\cup ", "2^", "<=", "[1, ",
    "\\{",
]  # fmt: skip
GOLDS = {
    "math": "5",
    "choice": '{"answer": "B", "options": {"A": "4", "B": "7"}}',
    "countdown": '{"numbers": [4, 6, 8], "target": 24}',
}


def work(text: str, domain: str) -> float:
    """Seconds of this thread for extraction and the fast path, the least of three."""
    seconds = []
    for _ in range(3):
        forget()
        began = time.thread_time()
        extracted = extract(text, domain)
        if extracted is not None and domain in GOLDS:
            easy(GOLDS[domain], extracted, domain)
        seconds.append(time.thread_time() - began)
    return min(seconds)


@pytest.mark.parametrize("domain", ["math", "choice", "countdown", "code"])
def test_twice_the_text_takes_twice_the_time(domain: str) -> None:
    chosen = random.Random(f"fragments of {domain}")
    alone = [("", fragment, "") for fragment in FRAGMENTS] + [("```", " ", "."), ("``` ", "A", "5")]
    mixed = [tuple(chosen.choices(FRAGMENTS, k=3)) for _ in range(60)]
    for before, repeated, after in [*alone, *mixed]:
        once, twice = (
            work(before + (repeated * (size // len(repeated))) + after, domain)
            for size in (100_000, 200_000)
        )
        assert twice < max(3 * once, 0.1), (before, repeated, after)


def test_an_unknown_domain_is_named() -> None:
    with pytest.raises(ValueError, match="poetry"):
        extract("\\boxed{1}", "poetry")
