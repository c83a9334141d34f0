r"""One spelling for many: the text that both paths of the verifier read.

Nothing here changes what an answer says. It undoes wrapping, and spells what math-verify would
misread in the way that it reads well: 10\,000, 2 3/4, 1.2e3, 0.\overline{3}, "5 dollars".
"""

import re
from functools import lru_cache

LONGEST = 3_000  # characters; nothing longer is an answer

_SPACE = re.compile(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])")
_LISTED = re.compile(r"\d, \d{3}(?!\d)", re.ASCII)

# Thousands parted by spaces, with either sign before the decimals; by dots, with a comma.
_SPACED = re.compile(r"(-?\d{1,3}(?: \d{3})+)(?:[.,](\d+))?", re.ASCII)
_DOTTED = re.compile(r"(-?\d{1,3}(?:(?:\.\d{3}){2,}|(?:\.\d{3})+(?=,)))(?:,(\d+))?", re.ASCII)
# A comma that cannot part thousands, nor items of a list with spaces: 1,22 and 0,125 and 12,5 km.
_DECIMAL_COMMA = re.compile(
    r"([-+]?\d+),(?:(?<=^0,)\d+|\d{1,2}|\d{4,}|(?<=\d{4},)\d{3})([^\d,]*)", re.ASCII
)
_MIXED = re.compile(r"(-?\d+) (\d+)/(\d+)", re.ASCII)
_POWER_OF_TEN = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})", re.ASCII)
_REPEATING = re.compile(r"(-?)(\d{1,50})\.(\d{0,50})\\(?:overline|bar)\{(\d{1,50})\}", re.ASCII)
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_COUNTED = re.compile(
    r"(-?\d[\d,.]*) (?:([a-zA-Z]{4,}(?: [a-zA-Z]+)*)|(\([a-zA-Z]{2,}(?:[ -][a-zA-Z]+)*\)))",
    re.ASCII,
)
_RATE = re.compile(
    r"(-?\d[\d,.]*) ?(\(?(?:km|cm|mm|m|mi|miles|ft|kg|g|L)/(?:hr|h|sec|s|min|kg|L)\)?)", re.ASCII
)
_CURRENCY = re.compile(r"(?<![a-zA-Z\\])(?:USD|EUR|GBP|INR|RMB|CNY|Rs\.?)(?![a-zA-Z])")
_TEXT = re.compile(r"\\text ?\{ ?([-+]?\d[^{}]*)\}")  # a number, perhaps with its unit, as text
_NO_UNITS = frozenset(  # words after a number that change it
    """and or to over mod modulo base percent percentage percents hundred thousand million billion
    trillion dozen squared cubed times plus minus sqrt theta alpha beta gamma delta lambda omega
    infinity factorial choose point half halves thirds quarters sine cosine tangent
    radical""".split()  # noqa: SIM905
)
_PERCENT = re.compile(r"(?<=\d) ?(?:percent|percentage|pct)(?![a-zA-Z])", re.IGNORECASE)
_PI = re.compile(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])")
_REWRITES = (
    (re.compile(r"\\?[$€£¥₹]|\\displaystyle"), ""),
    # The C of 5 \u00b0C.
    (re.compile(r"(\^ ?\{? ?\\circ ?\}?) ?(?:[CF]|\\(?:text|mathrm) ?\{ ?[CF] ?\})$"), r"\1"),
    # A separator of thousands: 10\,000 10{,}000 10,\!000
    (re.compile(r"(?<=[0-9])(?:\\[,:; ]|\{,\}(?:\\!)?|, ?\\! ?|~)(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"\\(?:text(?:rm|bf|it|normal)|mathrm|mathbf|mathit)(?=\s*\{)"), r"\\text"),
    (re.compile(r"(\\text ?\{[^{}]*\}) ?\^ ?\{ ?(\d) ?\}$"), r"\1^\2"),  # \text{cm}^{2}
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"(\\frac ?\{[^{}]*\}) ?(\d)(?!\d)"), r"\1{\2}"),  # \frac{270}7
    (re.compile(r",? ?(?:\u6216|\u548c) ?"), ", "),  # or, and, in Chinese
)
_SYMBOLS = {
    "\u2212": "-",  # minus sign
    "\u2013": "-",  # en dash
    "\u00d7": "\\times ",
    "\u00b7": "\\cdot ",
    "\u00f7": "\\div ",
    "\u03c0": "\\pi ",
    "\u00b0": "^\\circ",
    "\u00bd": "\\frac{1}{2}",
    "\u2153": "\\frac{1}{3}",
    "\u2154": "\\frac{2}{3}",
    "\u00bc": "\\frac{1}{4}",
    "\u00be": "\\frac{3}{4}",
    "\u2009": " ",  # a thin space
    "\u202f": " ",
    "\u221e": "\\infty ",
    "\u2264": "\\le ",
    "\u2265": "\\ge ",
    "\u222a": "\\cup ",
    "\u00b1": "\\pm ",
    "\u2205": "\\emptyset ",
    "\u221a": "\\sqrt ",
    # Full-width signs, and the Chinese comma.
    "\uff05": "%",
    "\uff0c": ", ",
    "\u3001": ", ",
    "\uff1b": "; ",
    "\uff1a": ":",
    "\uff08": "(",
    "\uff09": ")",
}
_TRANSLATE = str.maketrans(_SYMBOLS)


@lru_cache(maxsize=4096)
def standard(text: str) -> str:
    """An answer in the spelling that both paths read: no wrapping, plain signs and separators."""
    if len(text) > LONGEST:
        return ""
    if _PLAIN.fullmatch(text):
        return text
    text = text.strip(" \n\t,;*`").rstrip(".")
    if text[:2] in ("\\(", "\\[") and text[-2:] in ("\\)", "\\]"):
        text = text[2:-2].strip()
    if not text.isascii():
        text = text.translate(_TRANSLATE)
    text = " ".join(text.replace("\0", " ").split())
    if any(c in text for c in "\\{$~") or not text.isascii():
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
        text = text.replace("\\varnothing", "\\emptyset").strip(" ,;*").rstrip(".")
    if repeating := _REPEATING.fullmatch(text):
        sign, whole, start, period = repeating.groups()
        nines = int("9" * len(period)) * 10 ** len(start)
        over = int(whole + start + period) - int(whole + start)
        return f"{sign}\\frac{{{over}}}{{{nines}}}"
    if counted := _TEXT.fullmatch(text):
        text = counted[1].strip()
    text = _CURRENCY.sub("", text).strip() if any(c.isdigit() for c in text) else text
    if grouped := _SPACED.fullmatch(text) or _DOTTED.fullmatch(text):
        whole, places = grouped.groups()
        return re.sub("[ .]", "", whole) + (f".{places}" if places else "")
    if mixed := _MIXED.fullmatch(text):
        return f"{mixed[1]}\\frac{{{mixed[2]}}}{{{mixed[3]}}}"
    if power := _POWER_OF_TEN.fullmatch(text):
        return f"{power[1]}\\times 10^{{{int(power[2])}}}"
    text = _PERCENT.sub(r"\\%", text)
    if rate := _RATE.fullmatch(text):
        return f"{rate[1]}\\text{{ {rate[2]}}}"
    counted = _COUNTED.fullmatch(text)
    if counted and not _NO_UNITS & set(re.findall("[a-z]+", (counted[2] or counted[3]).lower())):
        return f"{counted[1]}\\text{{ {counted[2] or counted[3]}}}"
    return _PI.sub(r"\\pi ", text).strip() if "pi" in text else text


def decimal_point(text: str) -> str | None:
    """A standard answer that may be a decimal with a comma, with a point; None for others."""
    if not _DECIMAL_COMMA.fullmatch(text):
        return None
    return text.replace(",", ".")


def spaceless(text: str) -> str:
    """Without the spaces that part nothing; "1, 200" stays apart from "1,200"."""
    return text if _LISTED.search(text) else _SPACE.sub("", text)
