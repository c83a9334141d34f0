r"""The fast path never disagrees with math-verify: generated answers, judged by both.

Left out is what math-verify is known to misread, and what is our own rule: numerals with a base,
times of day, 2(1/2), a unit that is a letter, and "i" beside "1i".
"""

import os
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limo_ray.verify import Verdict
from limo_ray.verify.exact import DIFFERENT, EQUAL, TABLE, UNKNOWN, Outcome, compare, kinds
from limo_ray.verify.latex_reader import compare_texts, read
from limo_ray.verify.math import easy
from limo_ray.verify.normalize import standard
from limo_ray.verify.special_cases import RULES

EXAMPLES = int(os.environ.get("FAST_PATH_EXAMPLES", "400"))

small = st.integers(-9, 9)
whole = st.one_of(st.integers(-20, 20), st.integers(-2_000_000, 2_000_000))


@st.composite
def spelled(draw: st.DrawFn, value: Fraction) -> str:
    """One of the spellings of a rational number."""
    over, under = value.numerator, value.denominator
    forms = [
        f"{over}/{under}",
        f"\\frac{{{over}}}{{{under}}}",
        f"\\dfrac{{{3 * over}}}{{{3 * under}}}",
        f"{float(value):.{draw(st.integers(1, 9))}f}",
        f"{float(100 * value):.{draw(st.integers(0, 4))}f}\\%",
    ]
    if under == 1:
        forms += [str(over)] * 4 + [f"{over:,}", f"{over}.0", f"{over}\\%"]
    elif value > 1:
        forms.append(f"{over // under}\\frac{{{over % under}}}{{{under}}}")
    if value > 0 and under < 10 and over < 10:
        forms.append(f"\\frac{over}{under}")
    return draw(st.sampled_from(forms))


rational = st.builds(
    Fraction, st.integers(-300, 3000), st.sampled_from([1, 1, 1, 2, 3, 4, 5, 7, 8])
)
number = rational.flatmap(spelled)


@st.composite
def surd(draw: st.DrawFn) -> str:
    n, a, b = (
        draw(st.sampled_from([2, 3, 4, 5, 8, 12, 18, 50])),
        draw(small),
        draw(st.integers(1, 6)),
    )
    forms = [
        f"\\sqrt{{{n}}}",
        f"{b}\\sqrt{{{n}}}",
        f"\\frac{{{a}+\\sqrt{{{n}}}}}{{{b}}}",
        f"{a}-{b}\\sqrt{{{n}}}",
        f"\\frac{{{b}}}{{\\sqrt{{{n}}}}}",
        f"\\frac{{\\pi}}{{{b}}}",
        f"{b}\\pi",
        f"{a}+\\frac{{{b}\\pi}}{{2}}",
        f"\\sqrt{{\\frac{{{n}}}{{{b}}}}}",
        f"{a}+{b}i",
        f"{n}^{{{b}}}",
    ]
    return draw(st.sampled_from(forms))


@st.composite
def polynomial(draw: st.DrawFn) -> str:
    letters = draw(st.sampled_from(["x", "xy", "an", "pz"]))
    text = ""
    for _ in range(draw(st.integers(1, 3))):
        sign = draw(st.sampled_from("+-")) if text else draw(st.sampled_from(["", "-"]))
        text += sign + draw(st.sampled_from(["", "2", "3", "5"]))
        text += draw(st.sampled_from(letters)) + draw(st.sampled_from(["", "", "^2", "^{3}"]))
    shapes = [
        "{}",
        "({})^2",
        "2({})",
        "-({})",
        "\\frac{{{}}}{{3}}",
        "\\frac{{{}}}{{x}}",
        "({})(x+1)",
    ]
    return draw(st.sampled_from(shapes)).format(text)


@st.composite
def function(draw: st.DrawFn) -> str:
    arguments = ["x", "2", "3", "\\theta", "\\pi", "(2x)", "(x+1)", "(1+x)", "\\frac{x}{2}"]
    names = [
        "\\sin ",
        "\\cos ",
        "\\ln ",
        "\\log ",
        "\\log_2 ",
        "\\log_{3} ",
        "\\sin^2 ",
        "\\arctan ",
    ]
    applied = draw(st.sampled_from(names)) + draw(st.sampled_from(arguments))
    others = ["e^x", "e^{x+x}", "e^{2x}", "xe^x", "e", "2^n", "2^{n+1}", "x^{1/2}", "\\sqrt{x+1}"]
    others += [
        "\\sqrt{1+x}",
        "\\sqrt[3]{8}",
        "2^{\\frac{1}{3}}",
        "|x+1|",
        "2|x|",
        "|1+x|",
        "n!",
        "5!",
    ]
    others += [
        "x_1+x_2",
        "x_{2}+x_{1}",
        "\\sqrt{1+\\sqrt{2}}",
        "\\sigma^2",
        "x_1^2",
        "e^{-x}",
        "4^{1/2}",
    ]
    forms = ["{}", "{}", "2{}", "\\frac{{{}}}{{2}}", "{} + 1", "-{}", "{} - \\pi"]
    return draw(st.sampled_from(forms)).format(draw(st.sampled_from([applied, *others])))


scalar = st.one_of(number, number, surd(), polynomial(), function())
entry = st.one_of(
    small.map(str), st.sampled_from(["1/2", "0.5", "\\frac12", "\\sqrt{2}", "x", "-1.5"])
)


@st.composite
def group(draw: st.DrawFn) -> str:
    kinds = ["({}, {})", "({},{})", "[{}, {}]", "({}, {}]", "({}, {}, {})", "{}, {}", "{},{},{}"]
    kinds += ["\\{{{}, {}\\}}", "({}, \\infty)", "(-\\infty, {}]", "{} \\pm \\sqrt{{2}}"]
    kinds += ["{} and {}", "{} \\text{{ or }} {}", "{}, {} and {}"]
    kinds += ["(-\\infty, {}) \\cup (20, \\infty)", "({}, 1), ({}, 2)"]
    kinds += [
        "\\begin{{pmatrix}} {} \\\\ {} \\end{{pmatrix}}",
        "\\begin{{bmatrix}} {} & {} \\end{{bmatrix}}",
    ]
    kind = draw(st.sampled_from(kinds))
    return kind.format(*[draw(entry) for _ in range(3)])


@st.composite
def pair(draw: st.DrawFn) -> tuple[str, str]:
    """Two answers, often of the same value in two spellings, or of nearly the same value."""
    how = draw(st.integers(0, 5))
    factors = [Fraction(n) for n in (1, 1, 1, -1, 100)] + [Fraction(1, 100), 1 + Fraction(1, 10**6)]
    if how == 0:
        value = draw(rational)
        near = draw(st.sampled_from(factors))
        return draw(spelled(value)), draw(spelled(value * near))
    kind = [scalar, group(), surd(), function(), st.one_of(scalar, group())][how - 1]
    first, second = draw(kind), draw(kind)
    shape = draw(
        st.sampled_from(["{}", "{}", "{}", "x = {}", "{}\\text{{ cm}}", "{}^\\circ", "$ {} $"])
    )
    return shape.format(first), draw(st.sampled_from([shape.format(second), second, first]))


def theirs(gold: str, said: str) -> bool | None:
    """math-verify's verdict; None when it cannot read the gold answer."""
    from math_verify import LatexExtractionConfig, parse, verify

    how = (LatexExtractionConfig(),)
    parsed = parse(f"${gold.strip('$ ')}$", how, parsing_timeout=None)
    if all(isinstance(value, str) for value in parsed):
        return None
    other = parse(f"${said.strip('$ ')}$", how, parsing_timeout=None)
    return bool(verify(parsed, other, timeout_seconds=None))


@given(pair())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_the_fast_path_agrees_with_math_verify(answers: tuple[str, str]) -> None:
    gold, said = answers
    ours = easy(gold, said)
    if ours is None:
        return
    expected = theirs(gold, said)
    if expected is not None:
        assert (ours is Verdict.CORRECT) is expected, (gold, said, ours)


@given(rational.flatmap(lambda value: st.tuples(st.just(value), spelled(value))))
def test_a_rational_number_is_read_as_itself(case: tuple[Fraction, str]) -> None:
    value, text = case
    got = read(text)
    if got is not None and "." not in text and "\\%" not in text:
        assert compare(got, read(f"{value.numerator}/{value.denominator}")) is EQUAL  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    # Two readings each: a product or a mixed number, a unit or a letter, a list or a number, ...
    ["2 3", "1/2x", "2x 3", "x(x+1)", "a/b/c", "2^10", "abcd", "3 \\frac{x}{2}", "4t", "144km"],
)
def test_what_has_two_readings_is_left_alone(text: str) -> None:
    assert read(text) is None


EXAMPLES_OF_ROWS = [
    (row.kinds, *pair, outcome)
    for row in TABLE
    for pair, outcome in ((row.equal, EQUAL), (row.different, DIFFERENT), (row.unknown, UNKNOWN))
    if pair is not None
]
PMATRIX = "\\begin{pmatrix} %s \\end{pmatrix}"
MORE = [
    ("50\\%", "50", EQUAL),
    ("\\sqrt{8}", "2\\sqrt{2}", EQUAL),
    ("(x+1)^2", "x^2+2x+1", EQUAL),
    ("\\pi", "3.14", DIFFERENT),
    ("\\sqrt{x^2}", "x", UNKNOWN),
    ("|x|", "x", UNKNOWN),
    ("3", "(3, 4)", UNKNOWN),
    ("3", "(1,3) \\cup (3,4)", UNKNOWN),
    ("3", PMATRIX % "3 & 4", UNKNOWN),
    ("3", "[3, 2, 1]", UNKNOWN),
    ("x=5", "[1, 2]", DIFFERENT),
    ("x=1, y=2", "1, 2", EQUAL),
    ("1, 2", "[3, 4]", DIFFERENT),
    ("1, 2", "[1, 2]", UNKNOWN),
    ("1, 2", "[4, 3]", DIFFERENT),
    ("1, 2", PMATRIX % "3 & 4", DIFFERENT),
    ("1 \\pm \\sqrt{2}, 3", "3, 1-\\sqrt{2}, 1+\\sqrt{2}", EQUAL),
    ("(1, 2)", "(2, 1)", DIFFERENT),
    ("(1, 2)", "[1, 2]", UNKNOWN),
    ("[1, 2]", "[1, 3]", DIFFERENT),
    ("[1, 2]", "(1, 2]", UNKNOWN),
    ("x \\in [1, 2]", "[1, 2]", EQUAL),
    ("[3, 2, 1]", "[3, 2, 1.0]", EQUAL),
    ("[3, 2]", "[2, 3]", UNKNOWN),
    ("[0,1] \\cup (1,2]", "[0,2]", UNKNOWN),
    ("(0,1) \\cup (2,3)", "[5, 6]", DIFFERENT),
    ("12 = 3 \\cdot 4", "13", DIFFERENT),
    ("12 = 3 \\cdot 4", "13 = 13", DIFFERENT),
    ("y < 3", "1, 3", UNKNOWN),
    ("-2 \\le x < 7", "[-2, 7)", UNKNOWN),
    (PMATRIX % "1/2 & 1", "\\begin{bmatrix} 0.5 & 1 \\end{bmatrix}", EQUAL),
    (PMATRIX % "1 & 2", PMATRIX % "2 & 1", DIFFERENT),
    (PMATRIX % "1 & 2", PMATRIX % "1 \\\\ 2", DIFFERENT),
]


@pytest.mark.parametrize("said", ["9^{9^{9^{9}}}", "(x+1)^{10000000}", "(10^{10})!"])
def test_what_math_verify_would_never_finish(said: str) -> None:
    assert compare_texts("5", said) is DIFFERENT


@pytest.mark.parametrize(("row", "gold", "said", "outcome"), EXAMPLES_OF_ROWS)
def test_each_row_of_the_table(
    row: tuple[str, str], gold: str, said: str, outcome: Outcome
) -> None:
    a, b = read(gold), read(said)
    assert a is not None and b is not None
    assert row[0] in kinds(a) and row[1] in kinds(b)
    test_outcomes(gold, said, outcome)


@pytest.mark.parametrize(("gold", "said", "outcome"), MORE)
def test_outcomes(gold: str, said: str, outcome: Outcome) -> None:
    assert compare_texts(gold, said) is compare_texts(said, gold) is outcome
    if outcome is not UNKNOWN and gold not in OURS:
        assert theirs(gold, said) is (outcome is EQUAL)


# Equations between numbers are what they say, and come to their last side: math-verify takes all
# true ones for the same.
OURS = {"3+1=2+2=4", "12 = 3 \\cdot 4"}


@pytest.mark.parametrize(
    ("number", "example"), [(i, e) for i, rule in enumerate(RULES) for e in rule.examples]
)
def test_each_special_case(number: int, example: tuple[str, str, Outcome]) -> None:
    gold, said, outcome = example
    gold, said = standard(gold), standard(said)
    assert RULES[number].decide(gold, said) is RULES[number].decide(said, gold) is outcome
    assert all(rule.decide(gold, said) is UNKNOWN for rule in RULES[:number])


def test_most_answers_take_the_fast_path() -> None:
    """Not a matter of right or wrong, but of speed: the reader must keep reading these."""
    texts = [
        "12",
        "-3.5",
        "1/2",
        "\\frac{3\\sqrt{2}}{2}",
        "7\\pi",
        "4a-2",
        "(1, -2)",
        "x=5",
        "50\\%",
    ]
    texts += [
        "(-\\infty, 3]",
        "1,2,3",
        "12\\frac{3}{5}",
        "\\frac{x+1}{x-1}",
        "3,250",
        "5\\text{ cm}",
    ]
    assert [text for text in texts if read(text) is None] == []
