"""The textbook: chapters, order, hints that give nothing away, and nothing fetched or executed."""

import re

from limo_ray.report.textbook import BookProblem, hints, render_textbook
from tests.report.pages import Page, assert_harmless


def problem(question: str, **more: object) -> BookProblem:
    facts = {"answer": "7", "subject": "sums", "pass_rate": 0.1, "origin": "from pool, line 1"}
    return BookProblem(question=question, **(facts | more))  # type: ignore[arg-type]


SOLUTION = (
    "<think>We look at the two summands first.</think> Write both numbers below each other. "
    "Then add the digits from the right. Since 3 + 4 = 7, nothing is carried. "
    "The answer is \\boxed{7}."
)


def test_chapters_by_subject_and_easy_problems_first() -> None:
    page = render_textbook(
        "Book",
        [
            problem("Hard?", pass_rate=0.1, solution="s"),
            problem("Easy?", pass_rate=0.9, solution="s"),
            problem("A triangle?", subject="geometry", solution="s"),
        ],
        [problem("Exercise?"), problem("Of no chapter?", subject="logic")],
    )
    assert re.findall(r"<h2 id=\"c\d\">(.+?)</h2>", page) == ["1. geometry", "2. sums"]
    numbered = re.findall(r'id="p([\d.E]+)".*?class="question">(.*?)</div>', page, re.S)
    assert numbered == [
        ("1.1", "A triangle?"), ("2.1", "Easy?"), ("2.2", "Hard?"), ("2.E1", "Exercise?"),
    ]  # fmt: skip
    assert "Of no chapter?" not in page


def test_an_exercise_has_neither_solution_nor_answer() -> None:
    page = render_textbook("Book", [problem("One?", solution="s")], [problem("Two?", answer="77")])
    exercise = page.partition('id="p1.E1"')[2]
    assert "Two?" in exercise and "77" not in exercise and "<details" not in exercise


def test_hints_do_not_give_the_answer_away() -> None:
    found = hints(problem("What is 3 + 4?", solution=SOLUTION))
    assert found == [
        "We look at the two summands first.", "Write both numbers below each other.",
    ]  # fmt: skip
    only = "The number seven is 7 and so the result is 7. Therefore the answer is \\boxed{7}."
    assert hints(problem("What is 3 + 4?", solution=only)) == []


def test_a_hint_does_not_repeat_the_question() -> None:
    asked = "Anna buys seventeen apples and nineteen pears on Sunday."
    assert hints(problem(asked, solution=asked + " First count all pieces of fruit.")) == [
        "First count all pieces of fruit."
    ]


def test_formulas_are_mathml_and_markup_of_strangers_is_text() -> None:
    text = "<script>alert(1)</script> $\\frac{1}{2}$ <img src=http://x>"
    page = render_textbook("B", [problem(text, solution=text, subject=text, teacher=text)], [])
    assert "<mfrac>" in page
    assert_harmless(Page(page))


def test_the_index_has_words_of_several_problems_but_not_of_most() -> None:
    many = [problem(f"Number {i} of the parade?", solution="s") for i in range(20)]
    some = [problem(f"A hexagon of side {i}?", solution="s") for i in range(3)]
    index = render_textbook("B", many + some, []).partition('id="index"')[2]
    assert re.findall(r"<p>(\w+) ", index) == ["hexagon", "side"]
