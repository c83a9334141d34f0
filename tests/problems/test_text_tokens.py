# ruff: noqa: RUF001
"""Tokens: what folds, what must not, and that no text is too hostile to read."""

import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limo_ray.problems.text_tokens import LEAD_IN, content, folded, tokens

ALL = st.text(st.characters(exclude_categories=()))  # lone surrogates and unassigned too


def said(text):
    return [folded(token) for token in tokens(text)]


@pytest.mark.parametrize(
    "spellings",
    [
        # case, white space, punctuation
        ("Find the VALUE of x.", "find the  value\n\tof\u00a0x", "(find) the value, of: x?!"),
        ("it’s Anna's", "it's annas", "it′s Anna‘s", "it´s annas"),
        # LaTeX styles
        (r"\frac{1}{2}", r"\dfrac{1}{2}", r"\tfrac12", r"\frac 1 2", r"\cfrac{1}2", "1/2", "½"),
        (r"\frac{\frac{1}{2}}{3}", r"\dfrac{\tfrac12}{3}", "1/2/3"),
        (r"\frac{a}{\frac{b}{\frac{c}{\frac{d}{e}}}}", "a / b / c / d / e"),
        (r"\frac{x^{2}+1}{y_{1}}", "x^2 + 1 / y₁"),
        (r"\dfrac{\sqrt{x^{2}}}{3}", r"\frac{\sqrt{x^{2}}}{3}"),
        (r"$\left( x + 1 \right)$", "(x+1)", r"\bigl(x+1\bigr)", r"\[ \displaystyle (x + 1) \]"),
        (r"\text{cm} \quad \mathrm{kg}\\", "cm kg", r"\textbf{cm}\;\operatorname{kg}"),
        (r"\begin{align*} x &= 3 \\ \end{align*}", "x = 3"),
        (r"x \le 3", r"x \leq 3", r"x\leqslant 3", "x ≤ 3", "x <= 3", "x⩽3"),
        (r"x \ge 3", r"x\geq3", "x ≥ 3", "x >= 3"),
        (r"x \neq 3", r"x \ne 3", "x ≠ 3", "x != 3"),
        (r"x \lt 3", "x < 3", "x＜3"),
        (r"\sqrt{2}", "√2", r"\sqrt 2"),
        (r"\pi\alpha\Omega\lambda", "π α Ω λ", "𝜋 𝛼 𝛺 𝜆"),
        (r"\varepsilon \varphi", "ε φ", r"\epsilon \phi"),
        (r"\infty", "∞", "infinity"),
        (r"x \in \mathbb{R}", "x ∈ ℝ"),
        (r"\ldots 3", "… 3", "... 3"),
        # Unicode
        ("３＋４", "3 + 4", "3+4"),
        ("ﬁnd", "find"),
        ("na\u00efve", "nai\u0308ve"),
        ("fi\u200bnd\ufeff 3\u00ad4", "find 34"),
        ("ＡＢ", "ab"),
        # numbers
        ("1,234,567", "1234567", r"1{,}234{,}567", r"1\,234\,567", r"1,\!234,\!567"),
        ("12\u2009345", "12\u202f345", "12,345"),
        ("3.50", "3.5", "３.5"),
        (".5", "0.5", "0.50"),
        ("4.0", "4", "4.", "four"),
        ("twenty dozen", "20 12", "TWENTY Dozen"),
        ("thirty million", "30 1,000,000"),
        ("50%", r"50\%", "50 percent", "fifty percent", "50％"),
        ("90°", r"90^\circ", r"90^{\circ}", r"90 ^ { \circ }", "90 degrees", r"90\degree"),
        (r"\frac{1}{\cos 10^\circ} + 2", "1/cos 10° + 2", r"\frac{1}{\cos 10^{\circ}}+2"),
        ("3½", r"3\frac{1}{2}", "3 1/2", "3 ½"),
        ("⅔ + ⅞", r"\frac23 + \frac78", "2/3 + 7/8"),
        # powers and indices
        ("x^2", "x²", "x^{2}", "x**2", "x ^ 2"),
        ("x^{10}", "x¹⁰", "x**10"),
        ("10^{-3}", "10⁻³", "10**(-3)"),
        ("x^{n+1}", "xⁿ⁺¹"),
        ("x_1 + x_{12}", "x₁ + x₁₂"),
        (r"\log_{10} 5", "log₁₀ 5"),
        # products
        ("2x", "2*x", "2·x", r"2 \cdot x", "2 × x", "2 \\times x"),
        ("2 * 3", "2·3", "2×3", r"2\cdot3", r"2\times 3", r"2 \ast 3", "2⋅3"),
        ("three * 4", "3*four", "３×４"),
        ("½ * three", r"\dfrac{1}{2}\cdot 3"),
        ("**2** apples", "2 apples"),
        (r"6 \div 2", "6 ÷ 2", "6/2", "6∕2"),
        # minus and hyphen
        ("3-4", "3 - 4", "3 − 4", "3–4", "3‑4", "$3$-$4$", "3-{4}"),
        ("x-y", "x − y", "$x$ - $y$"),
        (r"3-\sqrt{2}", "3 - √2", "3−sqrt(2)"),
        ("a two-digit number", "a two digit number", "a two‐digit number"),
        ("3-digit", "3 digit"),
        ("plane — or not", "plane or not"),
        ("n! + (n-1)!", "n! + (n - 1)!", "$n!$ + $(n−1)!$"),
        (r"a \pm b", "a ± b"),
    ],
    ids=lambda spellings: spellings[0],
)
def test_ways_to_write_one_thing_fold(spellings):
    first, *others = map(said, spellings)
    assert first
    assert others == [first] * len(others)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3+4", "3-4"),
        ("3 - 4", "3 4"),
        ("3*4", "3 4"),
        ("3*4", "3/4"),
        ("x=-3", "x=3"),
        ("-x", "x"),
        (r"3-\sqrt{2}", r"3\sqrt{2}"),
        (r"2 - \pi", r"2\pi"),
        (r"1-\sin x", r"1+\sin x"),
        ("x<3", "x>3"),
        ("x ≤ 3", "x < 3"),
        ("x ≤ 3", "x ≥ 3"),
        ("x = 3", "x ≠ 3"),
        ("12", "1 2"),
        ("1,23", "123"),
        ("1,2345", "12345"),
        ("1.5", "15"),
        ("1.05", "1.5"),
        ("30", "3"),
        ("f(2)", "f(3)"),
        ("x^2", "x_2"),
        ("x²", "2x"),
        ("x²", "x³"),
        ("2²³", "2² 3"),
        ("x⁻¹", "x¹"),
        ("5!", "5"),
        ("(n+1)!", "(n+1)"),
        ("n! = 24", "n = 24"),
        ("5%", "5"),
        ("90°", "90"),
        (r"\frac12", r"\frac21"),
        ("3½", "31/2"),
        ("ab", "a b"),
        ("maximum", "minimum"),
        (r"\sin x", r"\cos x"),
        ("two", "three"),
        ("α", "β"),
        ("男", "女"),
    ],
)
def test_things_that_differ_stay_apart(one, other):
    assert said(one) != said(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3", "4"), ("3+4", "3-4"), ("3*4", "3/4"), ("5!", "5"), ("x^2", "x 2"), ("5%", "5"),
        ("the maximum", "the minimum"), ("largest", "smallest"), ("sin", "cos"), ("log", "ln"),
        ("area", "perimeter"), ("even", "odd"), ("twice", "half"), ("mean", "median"),
        ("positive", "negative"), ("x<3", "x>3"),
    ],
)  # fmt: skip
def test_numbers_operations_and_quantities_are_content(one, other):
    assert [c for t in said(one) if (c := content(t))] != [
        c for t in said(other) if (c := content(t))
    ]


def test_words_of_one_meaning_are_one_content_and_other_words_none():
    assert content("largest") == content("greatest") == content("max")
    assert content("average") == content("mean")
    assert {content(word) for word in ("apples", "anna", "x", "find", "男")} == {""}
    assert not any(content(word) for word in LEAD_IN)
    assert content(folded("three")) == "3" and content(folded("percent")) == "%"


def test_chinese_is_read_character_by_character():
    assert tokens("计算：$1-\\frac{1}{2}$") == ["计", "算", "1", "-", "1", "/", "2"]
    assert tokens("３個のx") == ["3", "個", "の", "x"]
    assert tokens("한국어 abc") == ["한", "국", "어", "abc"]


def test_other_scripts_and_accents_are_words():
    assert tokens("Trouvez ÉLÈVE; Сколько?") == ["trouvez", "élève", "сколько"]


def test_nothing_is_no_token():
    assert tokens("") == tokens(" \n$$ ... {} \\left. ?") == []


HOSTILE = [
    "\\frac{", "\\frac{1}{", "\\frac{}", "\\frac ", "\\dfrac{a}{b", "{", "}", "{}", "\\", "\\\\",
    "$", "-", "- ", "-{", "--", "1,", "1,000", "1{,}", "1\\,", "1.", ".", ".1", "^", "^{", "^ ",
    "^{ \\circ", "**", "2**", "*", "2*", "!", "5!", "!=", "'", "a'", "\\begin{", "\\begin {a",
    "\\sqrt{", "1/", "½", "²", "x²", "₁", "\u2009", "1\u2009", "男", "é", "e\u0301", "\ufdfa",
    "\ud800", "\u200b", "√", "a", "1", " ", "<", "\n",
]  # fmt: skip


def test_reading_takes_time_in_proportion_to_length():
    size = 100_000
    texts = [piece * (size // len(piece)) for piece in HOSTILE]
    heads = ["\\^", "\\^{", "-", "\\frac", "\\frac{", "\\frac{1}", "\\begin", "\\begin{"]
    texts += [head + tail * size for head in heads for tail in (" ", "{")]
    texts += ["-" * (size // 2) + " " * (size // 2), "\\frac{" + "{a}" * (size // 3)]
    texts += ["\\circ" + "^" + " " * size, "\\" + "1," * (size // 2), "\\begin{" + "a" * size]
    for text in texts:
        started = time.thread_time()
        tokens(text)
        # about 0.1 s; text that is read over and over takes minutes
        assert time.thread_time() - started < 5, text[:20]


@given(ALL)
@example("\ud800")
@example("\u0130\u1e9e \u0345")
@example("1\u2044")
def test_any_text_is_read(text):
    for token in tokens(text):
        assert token and token == token.strip()
        assert folded(token) and isinstance(content(folded(token)), str)
        assert folded(folded(token)) == folded(token)


@given(st.lists(st.sampled_from([*HOSTILE, "\\left", "\\circ", "degree", "3", "x", "(", ")"])))
def test_any_mixture_of_hostile_pieces_is_read(pieces):
    assert all(tokens("".join(pieces)))


@given(st.text(st.sampled_from(string.ascii_letters + string.digits + " \n'\\{}$^*-+=,.!`~_/")))
def test_a_character_outside_ascii_changes_nothing_before_it(text):
    # ASCII text takes a faster way.
    assert tokens(text + " é") == [*tokens(text), "é"]
