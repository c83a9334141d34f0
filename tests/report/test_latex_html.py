"""Maths in text: converted where it can be, harmless and readable where it cannot."""

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limo_ray.report.latex_html import render, render_answer
from tests.report.pages import Page, assert_harmless


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (r"so $x^2$ is", ["msup"]),
        (r"so \(\frac{1}{2}\) is", ["mfrac"]),
        (r"\[\sqrt[3]{x_1}\]", ["mroot", "msub"]),
        ("$$\\frac{a}\n{b}$$", ["mfrac"]),
        (r"The answer is \boxed{\frac{\sqrt{3}}{2}}.", ["menclose", "mfrac", "msqrt"]),
        (r"\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}", ["mtable", "mtr", "mtd"]),
        (r"\[\begin{align*} x &= 1 \\ y &= 2 \end{align*}\]", ["mtable"]),
        (r"$\begin{cases} a & b \\ c & d \end{cases}$", ["mtable"]),
        (r"\begin{equation} x = 1 \end{equation}", ["mo"]),
        (r"$\begin{pmatrix} 1 & 2 \end{pmatrix}$", ["mtable"]),
        (r"\[ a = b \\ c = d \]", ["mtable"]),
    ],
)
def test_formulas_become_mathml(text: str, tags: list[str]) -> None:
    page = Page(render(text))
    found = [tag for tag, _ in page.elements]
    assert "math" in found and set(tags) <= set(found)
    assert "\\" not in page.text and "&" not in page.text


@pytest.mark.parametrize(
    "text",
    [
        r"broken $\frac{1}{$ here",
        r"\[ \left( x \]",
        r"\(\unknowncommand{x}\)",
        r"\begin{aligned} never closed",
        r"\boxed{never closed",
        r"$\def\x{\x\x}\x$",
        r"$\newcommand{\a}{b}\a$",
        "$" + "{" * 3000 + "$",
        r"\(" + r"\frac{1}{" * 400 + "x" + "}" * 400 + r"\)",
    ],
)
def test_what_does_not_convert_is_shown_as_it_stands(text: str) -> None:
    page = Page(render(text))
    assert "math" not in [tag for tag, _ in page.elements]
    assert "".join(page.texts) == text


def test_bold_is_shown_and_powers_stay() -> None:
    assert render("1. **Choose <b>**: first") == "1. <b>Choose &lt;b&gt;</b>: first"
    for text in ("2**3**2 is 512", "a ** b ** c", "(2)**(3)**(2)", "** open", "*****"):
        assert render(text) == text


def test_money_is_no_formula() -> None:
    text = "Tom pays $5 and Ann pays $6, or \\$7 with 1 < 2."
    assert render(text) == "Tom pays $5 and Ann pays $6, or $7 with 1 &lt; 2."


@pytest.mark.parametrize(
    "text",
    [
        r"$\text{<img/src=x/onerror=alert(1)>}$",
        r"$\href{javascript:alert(1)}{x}$",
        r"$\style{background:url(http://a)}{x}$",
        r"$\class{a}{x}$",
        r"$\color{red;background:url(http://a)} x$",
        r"$\text{&lt;script&gt;}$",
        r"$\hspace{99999em}x$",
        r"$&lt;img/src=x&gt;$",
        "</p><script>alert(1)</script>",
    ],
)
def test_hostile_formulas_are_harmless(text: str) -> None:
    page = Page(render(text))
    assert_harmless(page)
    for tag, attrs in page.elements:
        assert tag != "script"
        assert not {"style", "href", "mathcolor"} & attrs.keys()
        assert attrs.get("class") in (None, "tex")
        assert "99999em" not in attrs.values()


@pytest.mark.parametrize(
    ("answer", "expected"), [("42", "42"), ("a < b", "a &lt; b"), ('{"x": 1}', "{&#34;x&#34;: 1}")]
)
def test_plain_answers_stay_plain(answer: str, expected: str) -> None:
    assert render_answer(answer) == expected


@pytest.mark.parametrize("answer", [r"\frac{1}{2}", r"$\frac{1}{2}$", "x^{2}", r"\(x_1\)"])
def test_latex_answers_are_rendered(answer: str) -> None:
    assert "<math" in render_answer(answer)


PIECES = re.findall(
    r"\S+| |\n",
    r"""\( \) \[ \] $ $$ { } & ^ _ < > ' \\ | 1 x \frac \sqrt \left \right \text \boxed{ \hline
    \begin{array} \end{array} \begin{aligned} \end{aligned} \mathchoice \skew \def \color
    \limits \genfrac \substack \over \href \style \phantom \hspace \not \middle \rule""",
)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_jumble_renders_to_well_formed_harmless_html(text: str) -> None:
    assert_harmless(Page(render(text)))
    assert_harmless(Page(render_answer(text)))


@pytest.mark.parametrize(
    "piece", ["\\[", "\\(", "$$", "$x", "\\boxed{", "\\begin{align}", "$", "\\boxed{{{{", "{", "\\"]
)
def test_a_model_in_a_loop_costs_little_time(piece: str) -> None:
    start = time.thread_time()
    render(piece * (24_000 // len(piece)))
    render(piece * 2000 + "".join(random.Random(0).choices("\\[]()$x{} ", k=5000)))
    assert time.thread_time() - start < 5
