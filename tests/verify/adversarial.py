"""Hostile completions, seeded: what a model, or somebody who wants to break a verifier, may write.

    for domain, answer, completion in adversarial(1000, seed=0): ...

Code in an answer tries to leave a file named by the environment variable CANARY; no such file may
ever appear.
"""

import json
import random
from collections.abc import Iterator

GOLDS = [
    "5",
    "\\frac{1}{2}",
    "12\\sqrt{3}",
    "x^2+1",
    "(1, 2]",
    "\\{1, 2\\}",
    "3.14",
    "\\text{yes}",
    "7",
]
PIECES = [
    "\\frac",
    "\\sqrt",
    "{",
    "}",
    "(",
    ")",
    "^",
    "_",
    "1",
    "23",
    "x",
    "+",
    "-",
    "\\left(",
    "[",
    "]",
]
PIECES += [
    "\\right)",
    "\\cdot",
    ",",
    "\\pi",
    "\\text{",
    "\\boxed{",
    "$",
    "%",
    "=",
    "\\\\",
    "&",
    "!",
    "|",
]
PIECES += [
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\infty",
    "\\cup",
    "\\in",
    "\\log",
    "\\sin",
    ".",
    ";",
]
CODE = "__import__('os').system('touch $CANARY')"
CODES = [
    CODE,
    f'eval("{CODE}")',
    'exec(\'open(__import__("os").environ["CANARY"],"w")\')',
    "[c for c in ().__class__.__base__.__subclasses__()][0]",
    "(lambda: open('/tmp/canary','w'))()",
    "Integer(1).__class__.__mro__[-1].__subclasses__()",
    "sympify('__import__(\"os\").getcwd()')",
    "{{7*7}} ${7*7} %(x)s {0.__class__}",
    "'; DROP TABLE attempts; --",
    "x.__reduce__()",
]


def _powers(r: random.Random) -> str:
    n = str(r.choice([2, 9, 10, 99, 123456789]))
    return r.choice(
        [
            f"{n}^{{{n}^{{{n}^{{{n}}}}}}}",
            f"{n}^{{{r.choice([10**4, 10**6, 10**8, 10**12])}}}",
            f"{n}**{n}**{n}**{n}",
            "^".join(["{9}"] * r.randint(3, 30)),
            f"({n}^{{9999}})^{{9999}}",
            f"{n}^{{-{n}^{{9}}}}",
            f"\\left(\\frac{{{n}}}{{7}}\\right)^{{10^{{7}}}}",
            f"0.{'0' * r.randint(1, 400)}1^{{{n}}}",
            f"1e{r.choice([99, 9999, 99999999])}",
            f"e^{{e^{{e^{{e^{{{n}}}}}}}}}",
        ]
    )


def _factorials(r: random.Random) -> str:
    n = r.choice([50, 1000, 10**5, 10**7, 10**10])
    return r.choice(
        [
            f"{n}!",
            f"({n}!)!",
            f"5{'!' * r.randint(2, 50)}",
            f"\\binom{{{n}}}{{{n // 2}}}",
            f"\\frac{{{n}!}}{{{n - 1}!}}",
            f"\\prod_{{k=1}}^{{{n}}} k",
        ]
    )


def _nested(r: random.Random) -> str:
    n = r.choice([5, 20, 60, 300, 3000])
    return r.choice(
        [
            "\\sqrt{2+" * n + "1" + "}" * n,
            "\\frac{1}{1+" * n + "x" + "}" * n,
            "{" * n + "1" + "}" * n,
            "(" * n + "1" + ")" * n,
            "\\left(" * n + "x" + "\\right)" * n,
            "\\boxed{" * n + "1" + "}" * n,
            "\\boxed{" * n,
            "-" * n + "1",
            "x^{" * n + "2" + "}" * n,
            "\\text{" * n + "}" * n,
            "|" * n,
            "\\sqrt" * n + "2",
        ]
    )


def _long(r: random.Random) -> str:
    n = r.choice([1_000, 20_000, 1_000_000])
    unit = r.choice(
        ["7", "1,", " ", "$", "\\(", "3.", "{}", "x+", "\\frac12", "and ", "\\\\", "\n", "**"]
    )
    return (unit * (n // len(unit)))[: n if r.random() < 0.2 else n // 10]


def _unterminated(r: random.Random) -> str:
    return r.choice(
        [
            "\\frac{1}{",
            "\\boxed{\\frac{1}{2}",
            "\\begin{pmatrix} 1 & 2",
            "$x^2 + ",
            "\\left( 1, 2",
            "\\text{the answer",
            "\\sqrt[3]{",
            "\\frac",
            "x_{",
            "5\\",
            "\\boxed",
            "\\boxed{",
            "1^",
            "\\end{pmatrix}",
        ]
    )


def _characters(r: random.Random) -> str:
    strange = "\0\x01\x1b\u200b\u202e\u0661\u0662\u2028\ufeff\ud800\udfff\U0001f600\u0301½²√∑∞٣五"
    text = "".join(r.choice(strange + "12x+") for _ in range(r.randint(1, 40)))
    return r.choice(
        [text, f"5{text}", f"\\text{{{text}}}", "\u202e" + "שלום 5", f"\\frac{{{text}}}{{2}}"]
    )


def _expansions(r: random.Random) -> str:
    n = r.choice([20, 500, 10**4, 10**7])
    return r.choice(
        [
            f"(x+1)^{{{n}}}",
            f"(a+b+c+d+e+f)^{{{n}}}",
            "(x+1)" * min(n, 500),
            f"\\sum_{{k=1}}^{{{n}}} \\frac{{1}}{{k^2}}",
            f"\\int_0^{{{n}}} e^{{-x^2}} \\sin(x^x) dx",
            f"\\lim_{{x \\to 0}} \\frac{{\\sin({n}x)}}{{x^{n}}}",
            "\\begin{pmatrix}"
            + " \\\\ ".join([" & ".join(["x"] * 12)] * 12)
            + "\\end{pmatrix}^{99}",
            " + ".join(f"\\sqrt{{{k}}}" for k in range(2, 2 + min(n, 60))),
            "\\cdot".join(f"(x^{{{k}}}-{k})" for k in range(2, 2 + min(n, 40))),
            ",".join(str(k) for k in range(min(n, 2000))),
            "\\cup".join(f"({k},{k + 1})" for k in range(min(n, 60))),
            f"\\sin({n})^{{{n}}}+\\cos(\\tan({n}))",
            f"x^{{{n}}} - 1 = 0",
            f"10^{{{n}}} \\mod 7",
        ]
    )


def _code(r: random.Random) -> str:
    return r.choice(CODES)


def _soup(r: random.Random) -> str:
    return "".join(r.choice(PIECES) for _ in range(r.randint(1, 60)))


KINDS = [
    _powers,
    _factorials,
    _nested,
    _long,
    _unterminated,
    _characters,
    _expansions,
    _code,
    _soup,
]
WRAPS = [
    "\\boxed{%s}",
    "$\\boxed{%s}$",
    "The final answer is %s.",
    "%s",
    "</think>\\boxed{%s}",
    "x \\(%s\\)",
]


def _domain(r: random.Random, text: str) -> tuple[str, str]:
    """A domain and a gold answer for it; mathematics mostly."""
    chance = r.random()
    if chance < 0.8:
        return "math", r.choice(GOLDS)
    if chance < 0.86:
        return "choice", json.dumps({"answer": "B", "options": {"A": "4", "B": "\\frac{1}{2}"}})
    if chance < 0.93:
        return "countdown", json.dumps({"numbers": [4, 6, 8], "target": 24})
    kind, metadata, answer = r.choice(
        [
            ("puzzle24", {"numbers": [4, 6, 8, 1]}, "(8-4)*6*1"),
            ("polynomial_multiplication", {}, "x**2 + 1"),
            ("simple_integration", {"variable": "X", "integrand": "2*X"}, "X**2 + C"),
            ("spiral_matrix", {}, "1 2 3"),
            ("gcd", {}, "12"),
        ]
    )
    return "gym", json.dumps({"kind": kind, "answer": answer, "metadata": metadata})


def adversarial(count: int, seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """(answer, completion, domain) triples."""
    r = random.Random(seed)
    for _ in range(count):
        text = r.choice(KINDS)(r)
        domain, answer = _domain(r, text)
        if r.random() < 0.05 and domain == "math" and len(text) < 3000:
            answer = text  # a hostile gold answer against a hostile completion
        yield answer, r.choice(WRAPS) % text.replace("%", "\\%"), domain
