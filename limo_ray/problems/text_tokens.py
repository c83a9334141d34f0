r"""What a question says, as tokens: the same for every way of writing it.

    tokens(r"Find $\dfrac{1}{2}\cdot 3$.")   ["find", "1", "/", "2", "*", "3"]
    tokens("Find ½ × three")                 the same

Case, white space, punctuation, LaTeX style (`\dfrac`, `\left(`, `{,}`, dollars), Unicode (`½`, `²`,
`×`, full-width digits), separators of thousands and number words fold. What near-duplicates
and decontamination compare is made of these tokens only. Pure: no Ray, no files.
"""

import re
import unicodedata

# Numbers, Chinese and Japanese characters one by one, words, operators. A minus is an operator
# before a number, a bracket, a single letter or a function, not in "two-digit"; "!" after a number
# or a single letter.
_OPERATOR = (
    r"\d+(?:\.\d+)?|\.\d+|[+=<>/*^%]"
    r"|-(?<![a-z][a-z]-)(?=[\s{$]*(?:[\d.(]|[a-z](?![a-z])"
    r"|(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|alpha|beta|theta|lambda)(?![a-z])))"
    r"|!(?:(?<=[\d)]!)|(?<=(?<![a-z])[a-z]!))"
)
_ASCII = re.compile(r"[a-z]+|" + _OPERATOR)
_UNICODE = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    r"|(?:(?![\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])[^\W\d_])+|" + _OPERATOR
)

_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("×·⋅∙∗", " * "),
        **dict.fromkeys("−–‐‑", "-"),
        **dict.fromkeys("‘’′", "'"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\xad", ""),
        **{"—": " ", "÷": "/", "∕": "/", "≤": " <= ", "⩽": " <= ", "≥": " >= ", "⩾": " >= "},
        **{"≠": " <> ", "√": " sqrt ", "∞": " infty ", "°": " degree ", "±": " pm "},
        **{"∠": " angle ", "△": " triangle ", "⊥": " perp ", "∈": " in ", "∪": " cup "},
        **{"∩": " cap ", "π": " pi ", "≡": " equiv ", "≈": " approx ", "→": " to "},
        **{
            one: f" {unicodedata.name(one).split()[-1].lower().replace('lamda', 'lambda')} "
            for one in "αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
        },
    }
)  # fmt: skip

# What NFKC would run together with its neighbours: x¹⁰, log₁₀ x, 3½, the space in 1\u2009000.
_LEVEL = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ₀₁₂₃₄₅₆₇₈₉₊₋ₙ¼½¾⅐-⅞´\u2009\u202f]")
_LEVELS = re.compile(
    r"([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+)|([₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+|[¼½¾⅐-⅞])|´|(?<=\d)[\u2009\u202f](?=\d{3}(?!\d))"
)
_ARGUMENT = r"\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\}|(\d))"
_FRACTION = re.compile(r"\\[dtc]?frac" + _ARGUMENT + _ARGUMENT)
_DEEP = 4  # fractions in fractions
_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?:,|\{,\}|,?\\[,!;: ])(?=\d{3}(?!\d))")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))")
_COMMAND = re.compile(r"\\(?:([a-z]+)\*?|([^a-z\d]))")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{\s*[a-z*]+\s*\}")
_POWER = re.compile(r"(?<=[0-9a-z)}])\*\*(?=[0-9a-z({])")
_INSIDE_WORD = re.compile(r"(?<=[a-z])'(?=[a-z])")

_COMMANDS = {
    **dict.fromkeys(("cdot", "times", "ast"), " * "),
    **dict.fromkeys(("le", "leq", "leqslant", "leqq"), " <= "),
    **dict.fromkeys(("ge", "geq", "geqslant", "geqq"), " >= "),
    **dict.fromkeys(("ne", "neq"), " <> "),
    **dict.fromkeys(("lt",), " < "),
    **dict.fromkeys(("gt",), " > "),
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), " frac "),
    **{"div": " / ", "circ": " circ ", "degree": " degree ", "rightarrow": " to "},
    **{"epsilon": " epsilon ", "varepsilon": " epsilon ", "varphi": " phi ", "vartheta": " theta "},
    # how it looks, not what it says
    **dict.fromkeys(
        (
            "left", "right", "big", "bigl", "bigr", "bigg", "biggl", "biggr", "middle", "quad",
            "qquad", "displaystyle", "textstyle", "limits", "nolimits", "text", "textbf",
            "textit", "textrm", "mathrm", "mathbf", "mathit", "mathcal", "mathbb", "mathsf",
            "boldsymbol", "operatorname", "mbox", "hbox", "rm", "bf", "it", "emph", "underline",
            "overline", "hspace", "vspace", "noindent", "par", "newline", "label", "centering",
            "ldots", "dots", "cdots", "dotsc", "dotsb", "vdots", "ddots", "hline",
        ),
        " ",
    ),
}  # fmt: skip

_SAME = {
    **dict(zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split(), map(str, range(21)),
        strict=True,
    )),
    **{"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70"},
    **{"eighty": "80", "ninety": "90", "hundred": "100", "thousand": "1000", "dozen": "12"},
    **{"million": "1000000", "billion": "1000000000"},
    **{"percent": "%", "percentage": "%", "degrees": "degree", "infinity": "infty"},
}  # fmt: skip

# Words that decide what is asked as numbers do; words of one meaning stand together.
_DECIDING = {
    **dict.fromkeys("maximum max largest greatest biggest highest".split(), "max"),
    **dict.fromkeys("minimum min smallest least lowest fewest".split(), "min"),
    **{"average": "mean"},
    **{
        word: word
        for word in (
            "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt even odd "
            "area perimeter circumference volume mean median mode half third quarter twice double "
            "triple second fourth fifth sixth tenth not increasing decreasing positive negative"
        ).split()
    },
}
_OPERATORS = frozenset("+-=<>/*^!%")

# Words that a question begins or is wrapped with: they do not change what is asked.
LEAD_IN = frozenset(
    "a an the is are of what whats find compute calculate evaluate determine solve simplify give "
    "value please result following expression number answer problem question for to".split()
)


def tokens(text: str) -> list[str]:
    """The tokens of a question, in order. Linear in its length."""
    plain = text.isascii()
    if plain:
        text = text.lower()
    else:
        if _LEVEL.search(text):
            text = _LEVELS.sub(_level, text)
        text = unicodedata.normalize("NFKC", text)
        text = text.translate(_SYMBOLS).replace("⁄", "/").casefold()
    if "\\" in text or "{,}" in text:
        text = _plain(text)
    elif "," in text:
        text = _BETWEEN_DIGITS.sub("", text)
    if "'" in text:
        text = _INSIDE_WORD.sub("", text)
    starred = "*" in text
    if starred:
        text = _POWER.sub("^", text)
    if "!=" in text:
        text = text.replace("!=", "<>")
    found = (_ASCII if plain else _UNICODE).findall(text)
    if starred:
        found = _products(found)
    return found


def _level(match: re.Match[str]) -> str:
    if match[1]:
        return f"^{match[1]} "
    if match[2]:
        return f" {match[2]} "
    return "'" if match[0] == "´" else ""


def _plain(text: str) -> str:
    """Lower-case LaTeX as plain text: fractions with a slash, commands as words or nothing."""
    text = _BETWEEN_DIGITS.sub("", text)
    text = _DEGREES.sub(" degree ", text)
    for _ in range(_DEEP):
        if "frac" not in text:
            break
        text = _FRACTION.sub(_slash, text)
    return _COMMAND.sub(_command, _ENVIRONMENT.sub(" ", text))


def _slash(match: re.Match[str]) -> str:
    return f" {match[1] or match[2] or ''} / {match[3] or match[4] or ''} "


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name is None:
        return "%" if match[2] == "%" else " "
    return _COMMANDS.get(name) or f" {name} "


def _products(found: list[str]) -> list[str]:
    """A product sign only between numbers: 2*x, 2·x and 2x are one."""
    return [
        token
        for index, token in enumerate(found)
        if token != "*"
        or (
            0 < index < len(found) - 1
            and folded(found[index - 1])[-1].isdigit()
            and folded(found[index + 1])[0].isdigit()
        )
    ]


def folded(token: str) -> str:
    """The one spelling of a token: 3.50 is 3.5, three is 3, .5 is 0.5, percent is %."""
    if "." in token:
        whole, _, rest = token.partition(".")
        rest = rest.rstrip("0")
        token = f"{whole or '0'}.{rest}" if rest else whole or "0"
    return _SAME.get(token, token)


def content(token: str) -> str:
    """What a folded token says of the numbers, operations and quantities asked for, or nothing.

    Two questions whose tokens differ here are different problems, however alike they read.
    """
    if token[0].isdigit() or token in _OPERATORS:
        return token
    return _DECIDING.get(token, "")
