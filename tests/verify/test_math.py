"""Mathematical answers, in all the spellings that models and data sets use."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from limo_ray.verify import Verdict, unverifiable, verify

SAME = [
    ("42", "42"),
    ("42", "42."),
    ("42", "$42$"),
    ("42", "+42"),
    ("-7", "- 7"),
    ("-7", "\u22127"),
    # Decimals, fractions, percentages.
    ("0.5", ".5"),
    ("1/2", "0.5"),
    ("\\frac{1}{2}", "\\dfrac{2}{4}"),
    ("\\frac12", "1/2"),
    ("-\\frac{1}{2}", "\\frac{-1}{2}"),
    ("1/3", "0.333333"),
    ("50\\%", "0.5"),
    ("50\\%", "\\frac{1}{2}"),
    ("50\\%", "50"),
    ("50", "50%"),
    ("50", "50 percent"),
    ("12.5\\%", "\\frac{1}{8}"),
    ("0.\\overline{3}", "1/3"),
    ("0.1\\overline{6}", "1/6"),
    ("1.2e3", "1200"),
    ("1.5\\times 10^{3}", "1500"),
    # Mixed numbers.
    ("12\\frac{3}{5}", "12 \\frac{3}{5}"),
    ("12\\frac{3}{5}", "\\frac{63}{5}"),
    ("-2\\frac{1}{2}", "-2.5"),
    ("2 3/4", "2.75"),
    # Separators of thousands, currency, degrees, units.
    ("1,234,567", "1234567"),
    ("10{,}000", "10000"),
    ("10\\,000", "10,000"),
    ("10 000", "10000"),
    ("10,\\!000", "10000"),
    ("4", "3+1=2+2=4"),
    ("0.5", "\\frac{2}{4}=\\frac{1}{2}"),
    ("11,\\! 111,\\! 100", "11,\\!111,\\!100"),
    ("red; \\frac{30}{79}", "red; \\dfrac{30}{79}"),
    ("\\$18", "18"),
    ("18", "\\$18.00"),
    ("18", "18\\$"),
    ("18", "18 dollars"),
    ("5", "\u20ac5"),
    ("90", "90^\\circ"),
    ("90^{\\circ}", "90\u00b0"),
    ("5 \\text{ cm}", "5"),
    ("5", "5\\text{ cm}^2"),
    ("5", "5 \\text{ cm}^{2}"),
    ("5", "5\\,\\mathrm{cm}"),
    ("270/7", "\\frac{270}7\\text{ degrees}"),
    ("8", "8 kilometers"),
    # Roots, powers, expressions.
    ("2\\sqrt{2}", "\\sqrt{8}"),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
    ("\\frac{1}{1+\\sqrt{2}}", "\\sqrt{2}-1"),
    ("1+\\sqrt{2}", "\\sqrt{3+2\\sqrt{2}}"),
    ("7\\pi", "7 \\pi"),
    ("\\frac{\\pi}{2}", "0.5\\pi"),
    ("2^{10}", "1024"),
    ("\\sqrt[3]{8}", "2"),
    ("\\log_2 8", "3"),
    ("5!", "120"),
    ("4a-2", "-2 + 4a"),
    ("(x+1)^2", "x^2+2x+1"),
    ("\\frac{x^2-1}{x-1}", "x+1"),
    ("6 - 5i", "-5i + 6"),
    # Equations and inequalities.
    ("x=5", "5"),
    ("5", "x = 5"),
    ("y=2x+1", "2x+1"),
    ("y=2x+1", "y - 2x - 1 = 0"),
    ("3x+2y=5", "6x+4y=10"),
    ("x<3", "3>x"),
    ("-2\\le x\\le 7", "[-2,7]"),
    ("[-2,7]", "-2 \\leq x \\leq 7"),
    ("x \\in [-2,7]", "[-2,7]"),
    # Points, intervals, sets, matrices.
    ("(1,2)", "\\left( 1, 2 \\right)"),
    ("(1/2, 3]", "(0.5, 3]"),
    ("(-\\infty, 2)", "(-\\infty,2)"),
    ("(0,9) \\cup (9,36)", "(0,9)\\cup(9,36)"),
    ("1, 2, 3", "3, 1, 2"),
    ("1, 2", "\\{2, 1\\}"),
    ("1 \\pm \\sqrt{19}", "1-\\sqrt{19}, 1+\\sqrt{19}"),
    ("1,2", "x=1 \\text{ or } x=2"),
    ("(1,2),(3,4)", "(3,4), (1,2)"),
    (
        "\\begin{pmatrix} 1/5 \\\\ -18/5 \\end{pmatrix}",
        "\\begin{bmatrix} 0.2 \\\\ -3.6 \\end{bmatrix}",
    ),
    ("\\emptyset", "\\varnothing"),
    # Text.
    ("\\text{Evelyn}", "Evelyn"),
    ("\\text{(C)}", "C"),
    ("no solution", "\\text{No solution}"),
    ("4:30 p.m.", "4:30 \\text{ PM}"),
    ("52_8", "52_{8}"),
    ("360 = 2^3 * 3^2 * 5", "360 = 2^3 \\cdot 3^2 \\cdot 5"),
    # Several accepted answers.
    ('["1/2", "50 apples"]', "0.5"),
    ('["7", "8"]', "8"),
]

DIFFERENT = [
    # A number among several.
    ("3", "(3, 4)"),
    ("(3, 4)", "3"),
    ("3", "(1,3) \\cup (3,4)"),
    ("3", "[3, 2, 1]"),
    ("3", "\\begin{pmatrix} 3 & 4 \\end{pmatrix}"),
    ("3", "3+1=2+2=4"),
    ("1/3", "\\frac{1}{3}=0.33"),
    ("42", "43"),
    ("42", "4.2"),
    ("42", "\\frac{1}{42}"),
    ("12", "1, 2"),
    ("12", "1 2"),
    ("1234", "1, 234"),
    ("0.5", "50"),
    ("1/3", "0.33"),
    ("0.5\\%", "0.5"),
    ("12\\frac{3}{5}", "\\frac{3}{5}"),
    ("2\\sqrt{3}", "\\sqrt{6}"),
    ("\\pi", "3.14"),
    ("4a-2", "4"),
    ("7\\pi", "7"),
    ("x+1", "x-1"),
    ("x^2", "2x"),
    ("x=5", "y=5"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("1, 2", "1, 2, 3"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}"),
    ("\\text{Evelyn}", "\\text{Carla}"),
    ("\\text{yes}", "\\text{no}"),
    ("4:30 p.m.", "4:30 a.m."),
    ("52_8", "52_9"),
    ("360 = 2^3 * 3^2 * 5", "359 = 359"),
    ("2", "2 squared"),
    ("3", "3 \\text{ or } 4"),
    ("1 + 274i", "1 + 271i"),
    ('["7", "8"]', "9"),
    ("5", "\\text{yes}"),
    ("10000", "1000"),
    ("3", "3 million"),
    ("5", "9^{9^{9^{9}}}"),
    ("5", "(x+1)^{10000000}"),
]


@pytest.mark.parametrize(("gold", "said"), SAME)
def test_the_same(gold: str, said: str) -> None:
    assert verify(gold, f"so \\boxed{{{said}}}.") is Verdict.CORRECT


@pytest.mark.parametrize(("gold", "said"), DIFFERENT)
def test_different(gold: str, said: str) -> None:
    assert verify(gold, f"so \\boxed{{{said}}}.") is Verdict.WRONG


@pytest.mark.parametrize(("gold", "_"), SAME)
def test_gold_answers_are_usable(gold: str, _: str) -> None:
    assert unverifiable(gold) is None


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("See the figure: the locus is a {broken \\frac circle", "does not parse"),
        ("(" * 40 + "1" + ")" * 40, "does not parse"),
        ("1" * 5000, "longer"),
    ],
)
def test_gold_answers_that_cannot_be_used(gold: str, reason: str) -> None:
    assert reason in (unverifiable(gold) or "fine")


def test_no_answer_is_no_judgement() -> None:
    assert verify("5", "I do not know.") is Verdict.UNPARSED
    assert verify("5", "we have 5 and", complete=False) is Verdict.UNPARSED


def test_threads_give_the_same_verdicts() -> None:
    pairs = [(g, f"\\boxed{{{s}}}") for g, s in SAME + DIFFERENT]
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(lambda pair: verify(*pair), pairs * 3))
    assert got == [verify(*pair) for pair in pairs] * 3
