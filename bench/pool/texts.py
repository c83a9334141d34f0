r"""The words that `bench/pool/data.py` makes its pools of, and how it rewrites a text.

Pure functions of a `random.Random`: contexts, LaTeX problems, the made benchmark's own problems,
and rewritings that leave a problem the same one.
"""

import random
import re
from collections.abc import Callable


def _words(text: str) -> list[str]:
    return text.split()


GIRLS = _words(
    """Anna Maria Emma Olivia Sophia Mia Amelia Ava Ella Grace Chloe Lily Hannah Nora Zoe Leah
    Lucy Ruby Alice Clara Ivy Julia Sarah Mary Jane Kate Lisa Laura Linda Karen Nancy Betty
    Helen Amy Rachel Megan Janet Diane Debby Wendy Melanie Joan Sally Tina Paula Robin Bianca
    Carla Emily Jessica Janice Natalia Rose"""
)
BOYS = _words(
    """Tom Sam Dan Ben Joe Tim John James Robert Michael David Paul Mark George Kevin Brian
    Edward Ronald Jason Jeff Ryan Jacob Gary Eric Peter Adam Henry Carl Roger Albert Randy
    Mike Fred Keith Bob Jerry Larry Frank Scott Luke Isaac Alan Victor Oscar Hugo Felix Marcus
    Leon Walter Bill Jack William"""
)

_WEATHER = _words(
    """sunny rainy foggy windy snowy quiet warm chilly cloudy stormy humid mild busy festive calm
    grey bright drizzly frosty golden"""
)
_TIME = _words(
    """morning afternoon evening weekend Monday Tuesday Wednesday Thursday Friday Saturday Sunday
    holiday"""
)
_PLACE = _words(
    """harbour market library orchard workshop bakery museum station stadium theatre garden
    bridge lighthouse vineyard quarry laboratory bookshop greenhouse monastery railway airport
    cinema castle aquarium observatory hospital kitchen playground warehouse gallery"""
)
_TOWN = _words(
    """Lisbon Oslo Kyoto Lima Cairo Hanoi Quito Dublin Zagreb Tunis Perth Malmo Porto Turin Leeds
    Boston Denver Austin Tampa Omaha Reno Fresno Tulsa Bergen Ghent Basel Krakow Riga Tallinn
    Vilnius Accra Dakar Lagos Nairobi Kampala Lusaka Harare Windhoek Maputo Luanda Bogota
    Caracas Asuncion Montevideo Cordoba Rosario Salta Cusco Merida Puebla"""
)
_PEOPLE = _words(
    """teachers sailors bakers farmers tourists students nurses painters gardeners musicians
    engineers carpenters librarians drivers cooks dancers pilots tailors fishermen clerks"""
)
_DID = _words(
    """talked waited sang argued rested worked gathered laughed listened hurried queued practised"""
)
_HOW = _words(
    """loudly patiently cheerfully quietly eagerly slowly together outside nearby again happily
    carefully"""
)
_OPENINGS: tuple[Callable[[Callable[[list[str]], str]], str], ...] = (
    lambda c: (
        f"On a {c(_WEATHER)} {c(_TIME)} in {c(_TOWN)}, some {c(_PEOPLE)} {c(_DID)} {c(_HOW)} near "
        f"the {c(_PLACE)}."
    ),
    lambda c: (
        f"The {c(_PEOPLE)} of {c(_TOWN)} {c(_DID)} {c(_HOW)} beside the {c(_PLACE)} all {c(_TIME)}."
    ),
    lambda c: (
        f"It was a {c(_WEATHER)} {c(_TIME)}, and the {c(_PLACE)} in {c(_TOWN)} was full of "
        f"{c(_PEOPLE)}."
    ),
    lambda c: (
        f"While the {c(_PEOPLE)} {c(_DID)} at the {c(_PLACE)}, {c(GIRLS)} and {c(BOYS)} took the "
        f"{c(_WEATHER)} road to {c(_TOWN)}."
    ),
    lambda c: (
        f"{c(GIRLS)} read this in a {c(_PLACE)} in {c(_TOWN)}, where {c(_PEOPLE)} {c(_DID)} "
        f"{c(_HOW)}."
    ),
)


def context(rng: random.Random) -> str:
    """A sentence without numbers that says nothing about any problem; some millions of them."""
    return _OPENINGS[int(rng.random() * len(_OPENINGS))](
        lambda words: words[int(rng.random() * len(words))]
    )


def _pick(rng: random.Random, text: str) -> str:
    return rng.choice([part.strip() for part in text.split("|")])


def latex_problem(rng: random.Random) -> str:
    """A problem with LaTeX in it, put together of parts: many thousands of wordings."""
    v, w = rng.sample(["x", "y", "z", "t", "n", "k", "a", "b"], 2)
    f = rng.choice("fghpq")

    def n(low: int = 2, high: int = 99) -> int:
        return rng.randint(low, high)

    opening = _pick(
        rng, f"Let ${v}$ and ${w}$ be real numbers with|Suppose that ${v}$ and ${w}$ satisfy|"
        f"Two positive numbers ${v}$ and ${w}$ are chosen such that|It is known that|"
        f"For certain reals ${v}$, ${w}$ we have|Consider the equation"
    )  # fmt: skip
    relations = [
        rf"$\frac{{{v}}}{{{n()}}} + \frac{{{w}}}{{{n()}}} = {n()}$",
        rf"${v}^2 + {n()} \cdot {w} = {n(100, 999)}$",
        rf"$\left( {v} + {n()} \right) \cdot \left( {w} - {n()} \right) = {n(100, 999)}$",
        rf"$\sqrt{{{v} + {n()}}} = {n()} - {w}$",
        rf"${n()}{v} - {n()} \times {w} = \frac{{{n()}}}{{{n()}}}$",
        rf"$\left| {v} - {n()} \right| + \frac{{{n()}}}{{{w}}} = {n()}$",
        rf"$\log_2 \left( {v} + {n()} \right) = {n()} \cdot {w}$",
    ]
    condition = _pick(
        rng, rf"where ${v} \le {n(100, 999)}$|with ${w} \ge {n()}$|given that ${v} \ne {n()}$|"
        rf"and ${n()} \le {w} \le {n(100, 999)}$|and ${v} + {w} \le {n(1, 9)},{n(100, 999)}$"
    )  # fmt: skip
    ask = _pick(
        rng, rf"Find the value of ${v} + {n()} \cdot {w}$.|Compute $\frac{{{v} + {n()}}}{{{w}}}$.|"
        rf"What is the largest possible value of ${v}^2 - {n()}{w}$?|"
        rf"Determine all possible values of ${v}$ to within ${n(1, 9)},{n(100, 999)}$ places.|"
        rf"If ${f}({v}) = {n()}{v}^2 + {n()}$, what is "
        rf"${f}\left( \frac{{{n()}}}{{{n()}}} \right)$?|"
        rf"How many integers ${v}$ are there with ${n()} \le {v}^2 \le {n(1, 9)},{n(100, 999)}$?"
    )  # fmt: skip
    return f"{opening} {rng.choice(relations)}, {condition}. {ask}"


def benchmark_latex(rng: random.Random) -> str:
    """An item of the made benchmark with LaTeX in it; no other text shares its wording."""

    def n(low: int = 2, high: int = 99) -> int:
        return rng.randint(low, high)

    return rng.choice(
        [
            rf"A lattice point is drawn at random inside the ellipse $\frac{{x^2}}{{{n()}}} + "
            rf"\frac{{y^2}}{{{n()}}} \le {n()}$. Estimate how often its first coordinate exceeds "
            rf"$\frac{{{n()}}}{{{n()}}}$ of the second one in {n(1, 9)},{n(100, 999)} draws.",
            rf"Triangle $ABC$ has $AB = {n()}$, $BC = {n()}$ and $\angle ABC = {n(10, 90)}^\circ$. "
            rf"The bisector from $B$ meets $AC$ at $D$. Express $AD \cdot DC$ as a fraction "
            rf"$\frac{{p}}{{q}}$ in lowest terms and give $p + {n()} \times q$.",
            rf"The polynomial $P(x) = {n()}x^2 + {n()}x + {n()}$ leaves the remainder {n()} when "
            rf"it is divided by $\left( x - {n()} \right)$. By how much must its last coefficient "
            rf"grow for $x = \frac{{{n()}}}{{{n()}}}$ to become a root?",
            rf"An arithmetic progression starts at ${n()}$ and grows by $\frac{{{n()}}}{{{n()}}}$ "
            rf"at every step. Which of its terms is the first to satisfy $a_m \ge {n(1, 9)},"
            rf"{n(100, 999)}$, and what is then the mean of all terms so far?",
            rf"Over the complex numbers, $z = \left( {n()} + {n()}i \right) \cdot \left( {n()} - "
            rf"{n()}i \right)$ is rotated by ${n(10, 90)}^\circ$ about the origin. Give the real "
            rf"part of the image, rounded to a multiple of $\frac{{1}}{{{n()}}}$.",
            rf"Water flows into a cone of height ${n()}$ and radius ${n()}$ at $\frac{{{n()}}}"
            rf"{{{n()}}}$ litres a second. How fast does the level rise once the water stands "
            rf"${n()}$ units high, taking $\pi \le \frac{{22}}{{7}}$ as an equality?",
        ]
    )


def benchmark_short(rng: random.Random) -> str:
    """An item of the made benchmark with fewer than eight words."""

    def n(low: int = 2, high: int = 99) -> int:
        return rng.randint(low, high)

    return rng.choice(
        [
            rf"Evaluate $\binom{{{n(10, 60)}}}{{{n(2, 9)}}}$.",
            rf"Evaluate $\lfloor {n()} \sqrt{{{n()}}} \rfloor$.",
            rf"Compute $\frac{{{n()}}}{{{n()}}} \cdot \frac{{{n()}}}{{{n()}}}$.",
            rf"Find $\tau({n(1, 9)},{n(100, 999)})$.",
            rf"Rationalise $\frac{{{n()}}}{{{n()} + \sqrt{{{n()}}}}}$.",
            rf"What is ${n()} \times {n()}$ modulo ${n()}$?",
            rf"Factor ${n()}x^2 - {n()}y^2$ completely.",
            f"How many divisors has {n(1000, 99999)}?",
            f"Write {n(100, 9999)} in base {n(3, 16)}.",
            f"What is {n(2, 49)}% of {n(100, 9999)}?",
        ]
    )


# Rewritings. Each returns the text as it came where it finds nothing to change.

_MATH = re.compile(r"(?<!\\)\$\$.*?\$\$|(?<!\\)\$.*?(?<!\\)\$|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
_ASCII_FRACTION = re.compile(r"(?<![\d}])\\frac\{(\d+)\}\{(\d+)\}(?![\w^{])")
_LEFT_RIGHT = re.compile(r"\\(?:left|right)(?![a-z])")
_CDOT = re.compile(r"\\cdot(?!s)")
_INLINE = re.compile(r"(?<![\\$])\$([^$]+)(?<!\\)\$(?!\$)")
_THOUSANDS = re.compile(r"(?<![\d,.])(\d{1,3}),(\d{3})(?![\d,])")


def recase(text: str, rng: random.Random) -> str:
    """Upper, lower or swapped case outside of LaTeX, whose letters are names."""
    change = rng.choice([str.upper, str.lower, str.title])
    if "\\" in text and "$" not in text:
        return text
    pieces, at = [], 0
    for found in _MATH.finditer(text):
        pieces += [change(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*pieces, change(text[at:])])


def respace(text: str, rng: random.Random) -> str:
    """Other white space between words: doubled, tabs, line breaks, at the ends."""
    spaces = [" ", " ", "  ", "\n", "\t", "   "]
    words = text.split(" ")
    out = "".join(word + rng.choice(spaces) for word in words[:-1]) + words[-1]
    out = rng.choice(["", " ", "\n"]) + out + rng.choice(["", " ", "\n"])
    return out if out != text else text + " "


def repunctuate(text: str, rng: random.Random) -> str:
    """Another end of the text, spaces before signs, other quotes and hyphens; never a number."""
    stripped = text.rstrip()
    ends = [stripped + ".", stripped + " .", stripped + " ?"]  # 7! would be another number
    if stripped.endswith((".", "?", ":")):
        ends = [stripped[:-1], stripped[:-1] + " " + stripped[-1], stripped + stripped[-1]]
    out = rng.choice(ends)
    if rng.random() < 0.4:
        out = re.sub(r"(?<=[a-z])([,;?]) ", r" \1 ", out)
    if rng.random() < 0.4:
        out = out.replace("'", "\u2019").replace('"', "\u201d")
    if rng.random() < 0.3:
        out = re.sub(r"(?<=[a-z]), (?=[a-z])", " ", out, count=1)
    return out


_STYLES: tuple[Callable[[str], str], ...] = (
    lambda s: s.replace(r"\frac", r"\dfrac") if r"\dfrac" not in s else s,
    lambda s: s.replace(r"\frac", r"\tfrac"),
    lambda s: _ASCII_FRACTION.sub(r"\1/\2", s),
    lambda s: s if r"\left." in s or r"\right." in s else _LEFT_RIGHT.sub("", s),
    lambda s: _CDOT.sub(r"\\times", s),
    lambda s: s.replace(r"\times", r"\cdot"),
    lambda s: _CDOT.sub("\u00b7", s.replace(r"\times", "\u00d7")),
    lambda s: re.sub(r"\\le(?![a-z])", r"\\leq", re.sub(r"\\ge(?![a-z])", r"\\geq", s)),
    lambda s: re.sub(r"\\leq?(?![a-z])", "\u2264", re.sub(r"\\geq?(?![a-z])", "\u2265", s)),
    lambda s: _THOUSANDS.sub(r"\1\2", s),
    lambda s: _THOUSANDS.sub(r"\1{,}\2", s),
    lambda s: re.sub(r"(?<=[a-z)])\^(\d)(?!\d)", r"^{\1}", s),
    lambda s: re.sub(r"(?<=[a-z)])\^2(?!\d)", "\u00b2", s),
    lambda s: re.sub(r"\^\\circ|\^\{\\circ\}", "\u00b0", s),
    lambda s: re.sub(r" ([+=]) ", r"\1", s),
    lambda s: _INLINE.sub(r"\\(\1\\)", s),
    lambda s: _INLINE.sub(r"$$\1$$", s),
)


def restyle(text: str, rng: random.Random) -> str:
    r"""One to four other ways to write the same LaTeX (\dfrac, \left, \leq, {,}, \( \), signs)."""
    wanted = rng.randint(1, 4)
    for style in rng.sample(_STYLES, len(_STYLES)):
        changed = style(text)
        wanted -= changed != text
        text = changed
        if not wanted:
            break
    return text


_SYNONYMS = {
    "buys": "purchases", "bought": "purchased", "big": "large", "picked": "collected",
    "received": "got", "find": "determine", "compute": "calculate",
    "calculate": "compute", "determine": "find", "suppose": "assume", "total": "overall total",
    "each": "every", "every": "each", "kids": "children", "children": "kids", "needs": "requires",
    "started": "began", "starts": "begins", "whole": "entire", "also": "additionally",
    "currently": "presently", "then": "afterwards", "store": "shop", "shop": "store",
    "evaluate": "work out", "gives": "hands", "gave": "handed",
    "altogether": "in total", "make": "produce", "makes": "produces", "made": "produced",
    "possible": "attainable", "following": "next", "get": "obtain",
    "amount": "quantity", "costs": "is priced at", "remaining": "leftover", "left": "left over",
    "wants": "would like", "chosen": "picked", "certain": "some", "state": "give",
    "solve": "work out", "sells": "is selling", "sold": "was selling", "friends": "pals",
}  # fmt: skip
_PHRASES = ("Please solve: ", "Please answer: ", "Question: ", "Here is a problem. ", "Exercise. ")
_WORD = re.compile(r"(?<![\\\w])[A-Za-z]{3,}(?![\w{])")


def reword(text: str, rng: random.Random) -> str:
    """One to three words replaced by others of the same meaning, or a phrase put in front."""
    words = [found for found in _WORD.finditer(text) if found[0].lower() in _SYNONYMS]
    if not words or rng.random() < 0.25:
        return rng.choice(_PHRASES) + text
    for found in sorted(rng.sample(words, min(len(words), rng.randint(1, 3))), key=_backwards):
        other = _SYNONYMS[found[0].lower()]
        if found[0][0].isupper():
            other = other[0].upper() + other[1:]
        text = text[: found.start()] + other + text[found.end() :]
    return text


def _backwards(found: re.Match[str]) -> int:
    return -found.start()


def reformat(text: str, rng: random.Random) -> str:
    """The same problem as another site prints it: LaTeX style, Unicode, numbers, case, breaks."""
    out = restyle(text, rng)
    changes: list[Callable[[str], str]] = [
        lambda s: recase(s, rng),
        lambda s: respace(s, rng),
        lambda s: s.replace(" ", "\u00a0", 2).replace("'", "\u2019").replace(" - ", " \u2212 "),
        lambda s: re.sub(r"(?<![\d.,\\{^_])(\d)(\d{3})(?![\d.,])", r"\1,\2", s),
        lambda s: re.sub(r"(?<=[.?!]) ", "\n\n", s),
    ]
    for change in rng.sample(changes, rng.randint(1, 3)):
        out = change(out)
    return out if out != text else respace(text, rng)
