"""Several parts and proofs: what asks for them, and what only looks like it."""

import pytest

from limo_ray.curate.multi_part import proof, several_parts

SEVERAL = [
    "(a) What is $1+1$? (b) What is $2+2$?",
    "Given $f(x)=x^2$.\n(1) Find $f(3)$;\n(2) If $f(a)=4$, find $a$.",
    "Tom has 3 apples.\na) How many has Ann?\nb) How many has Bob?",
    "A ball falls. (i) Find its speed. (ii) Determine its energy.",
    "Part A: How many cars are there? Part B: How many wheels have they?",
    "1) What is the mean? 2) What is the median?",
    "Let $x>0$.\n1. Prove that $x^2>0$.\n2. Find the least $x$.",
    "Calculate: (1) $2+3$; (2) $5-7$.",
    "Find (a) the perimeter, (b) the area of a square with side 3.",
    "Simplify each of the following: a) $x+x$. b) $y+y$.",
    "Solve the following equations: (1) $x^2=4$ (2) $x^2=9$",
    "$(1)$ Find the value of $a$; $(2)$ Find the range of $b$.",
]
SINGLE = [
    "A function satisfies (i) $f(1)=1$ (ii) $f(x+y)=f(x)f(y)$. Find $f(5)$.",
    "Find all functions $f$ such that: (a) $f(1)=1$; (b) $f$ is even.",
    "Solve the system: (1) $x+y=3$ (2) $x-y=1$.",
    "On the interval $(a, b)$ let $f(a)=1$ and $f(b)=2$. What is $f(a)+f(b)$?",
    "Find the number of permutations with the properties (1) it is even, (2) it fixes 3.",
    "A machine follows these rules: (1) Write down a number. (2) Find its double. (3) Add one. "
    "What is the third number?",
    "Which is prime? (a) 4 (b) 5 (c) 6 (d) 8",
    "Points $(0, 1)$ and $(0, 2)$ are given. What is their distance? What a question, $(2, 2)$?",
    "From $x+y=3$ (1) and $x-y=1$ (2), what is $x$?",
    "$f(i,j)$ is $f(i-1,1)$ or $f(i-1,2)$. What is $f(3,1)$ and what is $f(3,2)$?",
    "Bob has 2.5 apples. How many apples are there?",
]


@pytest.mark.parametrize("question", SEVERAL)
def test_several_parts(question):
    assert several_parts(question, "4")


@pytest.mark.parametrize("question", SINGLE)
def test_one_question(question):
    assert several_parts(question, "4") is None


def test_labels_in_the_answer_tell_parts():
    question = "Given the curve $C$, (1) its equation in $x$; (2) the length of the chord."
    assert several_parts(question, "(1) $y=x$; (2) $\\sqrt{2}$")
    assert several_parts(question, "$\\sqrt{2}$") is None
    assert several_parts("What is the product of the cycles?", "(1)(2)") is None


@pytest.mark.parametrize(
    "question",
    [
        "Prove that there are infinitely many primes.",
        "Let $a,b>0$. Show that $a+b \\geq 2\\sqrt{ab}$.",
        "If $a$, $b$ are positive prove that $a+b>0$.",
        "Given a triangle $ABC$ with $AB=AC$, prove: $\\angle B = \\angle C$.",
        "Give a short proof of the theorem of Pythagoras.",
        "Prove the inequality $x^2 \\geq 0$.",
        "Suppose $n$ is odd. Then show that $n^2$ is odd.",
        "Prove or disprove that all groups of order 4 are abelian.",
    ],
)
def test_proofs(question):
    assert proof(question)


@pytest.mark.parametrize(
    "question",
    [
        "Show that the limit exists and find its value.",
        "Find all primes $p$ with $p^2<30$. Prove that there are no others.",
        "A survey shows that 30% like tea. How many of 50 people is that?",
        "The results show that $x=3$ and $y=4$. What is $x+y$?",
        "The least $n$ for which one can prove that $n!>100$ is",
        "Determine $x$ so that we can show the result.",
        "The movie show starts at 8. Calculate its length if it ends at 10.",
        "What is the alcohol content of 80 proof whiskey?",
        "Her profit improved by 5 dollars. Find the profit.",
    ],
)
def test_no_proofs(question):
    assert proof(question) is None
