r"""The final answer of a completion: what was boxed, else what was announced, else what came last.

Everything here is linear in the length of the text: completions are written by models, and some
of them are megabytes of braces.
"""

import itertools
import re
from collections import deque

# Without a box, the answer is looked for in so many characters at the end.
TAIL = 10_000
# A number is first looked for in the lines of so many characters at the end.
LINES = 200
# No answer is longer than this; a longer "answer" is a chain that forgot to close its brace.
LONGEST = 5_000
# Boxes that are empty or not closed are passed over, but not more of them than this.
PASSED_OVER = 20
# An announced answer of more words than this is a sentence around the answer.
WORDS = 4
# A sentence of more words than this, without a value in it, is no answer at all.
PROSE = 6

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,20}")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
# A box that is only named, or left open: "\\boxed{}", "\\boxed{?}", "\\boxed{\\phantom{2}}".
_BLANK = re.compile(r"(?:\\phantom\{[^{}]*\}|\\(?:square|quad|[lc]?dots|[ ,;])|[\s.?_…])*")
_SEPARATOR = re.compile(r"\b(?:and|or)\b|,|;")
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"(?:final\s+answers?(?:[^.\n]{0,100}?\s(?:is|are)\b|\s*:)|\banswers?\s+(?:is|are)\b"
    r"|\banswers?\s*:|^####)",
    re.IGNORECASE | re.MULTILINE,
)
# What may still change the answer after a box.
_FINAL = re.compile(
    r"final\s+answers?(?:[^.\n]{0,100}?\s(?:is|are)\b|\s*:)|^[ *#>]{0,9}answer\s*:|^####",
    re.IGNORECASE | re.MULTILINE,
)
_LETTER = re.compile(r"\(?[A-J]\)?(?![\w'])")
_FILLER = re.compile(
    r"(?:(?:actually|always|clearly|exactly|indeed|just|now|obviously|only|simply|still|then|thus"
    r"|equal to)\s+)+(?=\S)",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"\s*(?:=|\u2248|\bequals\b|\b(?:is|are)\s+equal\s+to\b)\s*")
_STOP = re.compile(r"[.!?](?:\s|$)")
_MATHS = re.compile(
    # \$ is a currency, and so is a dollar before a digit that would close: "from $5 to $10".
    r"\$\$((?:[^$\\]|\\.){1,1000})\$\$|(?<!\\)\$((?:[^$\n\\]|\\.){1,1000})\$(?!\d)"
    r"|\\\((.{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]",
    re.DOTALL,
)
# Words between two amounts in dollars: "it is 5 $ and then 2 $".
_PROSE = re.compile(r"[\s\d].*\s[a-zA-Z]{2,}\s", re.DOTALL)
_FRACTION_SIGNS = "\u00bd\u2153\u2154\u00bc\u00be"
_NUMBER = re.compile(
    r"(?<![\w.])(?<!\d,)-?(?:"
    r"\d{1,2}:\d{2}(?:\s?(?:\\text\{)?\s?[ap]\.?m\b\.?\}?)?"  # 4:30 p.m.
    r"|(?:\d{1,9}\s?)?\\[dtc]?frac\s?\{[^{}]{1,50}\}\s?\{[^{}]{1,50}\}(?:\s?\\?%)?"
    r"|(?:\d{1,9} )?\d{1,9}/\d{1,9}(?![\d/])"  # 3/4, 2 3/4
    r"|(?:[$\u20ac\u00a3] ?)?(?:"
    # 1 000,5 and 1\,000.5, whatever parts the thousands; 1.000.000,5; 1000,5; .5
    r"\d{1,3}(?:(?P<mark>[ \u00a0\u2009\u202f,]|\\[,;:! ]|\{,\}|,\\!)\d{3}(?!\d))"
    r"(?:(?P=mark)\d{3}(?!\d))*(?:(?:\.|(?!(?P=mark)),)\d+)?"
    r"|\d{1,3}(?:\.\d{3}){2,}(?![\d.])(?:,\d+)?|\d{1,3}(?:\.\d{3})+,\d+"
    r"|\d+(?:,\d+){2,}|\d+(?:[.,]\d+)?[" + _FRACTION_SIGNS + r"]?|\.\d+|[" + _FRACTION_SIGNS + r"])"
    r"(?:/\d+)?(?:\s?\\?%)?)",
    re.IGNORECASE,
)
# Arithmetic in plain text, which stands for its value: "k = 10920 * (1/840)".
_ARITHMETIC = re.compile(
    r"(?<![\w.)])\(?-?\d[\d.,]{0,20}(?:\s?[-+*/^\u00d7\u00f7]\s?\(?-?\d[\d.,]{0,20}\)?){1,20}%?"
)


def region(completion: str) -> str:
    """The part of a completion that may hold its answer: what follows the last ``</think>``."""
    return completion.rpartition("</think>")[2] if "</think>" in completion else completion


def explicit(text: str, *, complete: bool = True) -> str | None:
    """What a text says in so many words: its last box, or a final answer announced after it.

    What follows a box counts only where it begins with a value: "the final answer is above" does
    not take anything back. Without a box it is what `announced` finds.
    """
    content, end = _last_box(text)
    if content is None:
        return announced(text[-TAIL:], complete=complete)
    rest = text[end:][-TAIL:]
    phrase = _last(_FINAL, rest) if "nswer" in rest or "NSWER" in rest or "####" in rest else None
    if phrase is None:
        return content
    said = rest[phrase.end() : phrase.end() + 2_000].lstrip(" :*\n\t")
    maths = _MATHS.match(said)
    if maths or _NUMBER.match(_unfilled(said)) or _LETTER.match(said):
        return _first_answer(said, complete) or content
    return content


def boxed(text: str) -> str | None:
    r"""Contents of the last ``\boxed{...}`` that is closed and not empty; None if there is none.

    Boxes that stand together ("\boxed{1} and \boxed{2}") are one answer, joined by commas, by
    math-verify's rule: less than 10 characters apart, or less than 70 with a separator between.
    """
    return _last_box(text)[0]


def _last_box(text: str) -> tuple[str | None, int]:
    """What `boxed` says, and the index after the last of the boxes."""
    # Nearly always there is one box, with no braces in it.
    at = text.find("box")
    if at < 0:
        return None, 0
    closing = text.find("}", at)
    if closing >= 0 and text.startswith("\\boxed{", at - 1) and text.find("box", at + 3) < 0:
        content = text[at + 6 : closing].strip()
        if "{" not in content and not content.endswith("\\") and not _BLANK.fullmatch(content):
            return content, closing + 1
    found: list[str] = []
    last = 0
    start_of_next = -1
    passed_over = 0
    for box in reversed([*_BOX.finditer(text)]):
        at, opening = box.start(), box.end()
        if not text.startswith("{", opening):
            opening = -1
        closing = _closing(text, opening) if opening >= 0 else -1
        content = text[opening + 1 : closing].strip() if closing >= 0 else ""
        if _BLANK.fullmatch(content):
            passed_over += 1
            if passed_over > PASSED_OVER:
                break
            continue
        if found:
            if closing > start_of_next or len(found) == PASSED_OVER:
                break  # the box around the one just read
            between = text[closing + 1 : start_of_next]
            together = len(between) < 10 or (
                found[-1] != content and len(between) < 70 and _SEPARATOR.search(between)
            )
            if not together:
                break
        last = last or closing + 1
        if not found or found[-1] != content:
            found.append(content)
        start_of_next = at
    return ",".join(reversed(found)) if found else None, last


def _closing(text: str, opening: int) -> int:
    """Index of the brace that closes the one at `opening`; -1 when it is not closed in time."""
    depth = 0
    for token in _BRACE.finditer(text, opening, opening + LONGEST):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return -1


def announced(text: str, *, complete: bool = True) -> str | None:
    """What is in the last <answer>, or follows the last "answer is", "answer:", "####".

    With `complete=False` it must be seen to end: by a closing tag, a stop, or a new line.
    """
    # Finding a word is far cheaper than a pattern, and most texts have neither.
    if not any(word in text for word in ("nswer", "NSWER", "####")):
        return None
    if tag := _last(_TAG, text):
        inner, closing, _ = text[tag.end() :].partition("</answer>")
        if inner.strip() and (complete or closing):
            return inner.strip()[:LONGEST]
    phrase = _last(_ANNOUNCED, text)
    if phrase is None:
        return None
    return _first_answer(text[phrase.end() : phrase.end() + 2_000], complete)


def _last(pattern: re.Pattern[str], text: str, start: int = 0) -> re.Match[str] | None:
    """The last match in the text from `start` on."""
    matches = deque(pattern.finditer(text, start), maxlen=1)
    return matches[0] if matches else None


def _first_answer(text: str, complete: bool) -> str | None:
    """The answer that a phrase such as "the answer is" announces: its maths, else its sentence."""
    text = text.lstrip(" :*\n\t")
    line, newline, _ = text.partition("\n")
    maths = _MATHS.search(text)
    if maths and not text[: maths.start()].strip(" *:"):
        return _inside(maths)
    sentence, *rest = _STOP.split(line, maxsplit=1)
    if not (complete or rest or newline):
        return None
    sentence = _unfilled(sentence.strip(" *."))
    if sentence.count(" ") < WORDS:
        return _last_side(sentence) or sentence or None
    # "that there are 5 apples": the first value in the sentence, if there is one soon.
    found = _MATHS.search(sentence, 0, 200) or _NUMBER.search(sentence, 0, 200)
    if found is None:
        return sentence if sentence.count(" ") < PROSE else None
    if found.re is _MATHS:
        return _inside(found)
    start = found.start() - sentence[: found.start()].endswith("(")
    return _last_side(sentence[start:]) or _value_at(sentence[start:]) or found[0].strip()


def _unfilled(text: str) -> str:
    filler = _FILLER.match(text)
    return text[filler.end() :] if filler else text


def _last_side(text: str) -> str | None:
    """What equations that begin with a number come to: "3 + 1 = 2 + 2 = 4" to 4; else None."""
    sides = _EQUALS.split(text)
    value = None
    for before, after in itertools.pairwise(sides):
        if _value_at(before) != before:
            break  # words: the equations end here
        value = _value_at(after) or value
    return value


def _value_at(text: str) -> str | None:
    """The arithmetic or the number that a text begins with, its brackets in pairs."""
    arithmetic = _ARITHMETIC.match(text)
    if arithmetic and arithmetic[0].count("(") == arithmetic[0].count(")"):
        return arithmetic[0].strip()
    number = _NUMBER.match(text)
    return number[0].strip() if number else None


def _inside(maths: re.Match[str]) -> str:
    return next(group for group in maths.groups() if group is not None).strip()


def _last_maths(text: str) -> re.Match[str] | None:
    """The last maths; a dollar that closes none may open the next."""
    last, at = None, 0
    while maths := _MATHS.search(text, at):
        at = maths.end()
        if maths[2] and _PROSE.match(maths[2]):
            at -= 1
        else:
            last = maths
    return last


def last_expression(text: str) -> str | None:
    """The last maths between dollars, or the last number or arithmetic, whichever ends later."""
    text = text[-TAIL:]
    maths = _last_maths(text) if any(sign in text for sign in ("$", "\\(", "\\[")) else None
    # The last lines nearly always have a number: the rest is read only where they have none.
    lines = text.rfind("\n", 0, max(0, len(text) - LINES)) + 1
    number = _last(_NUMBER, text, lines) or (_last(_NUMBER, text) if lines else None)
    if maths and (number is None or number.start() < maths.end()):
        return _inside(maths) or None
    if number is None:
        return None
    arithmetic = _last(_ARITHMETIC, text, text.rfind("\n", 0, number.start()) + 1)
    if arithmetic and arithmetic.start() <= number.start() and arithmetic.end() >= number.end():
        return _value_at(arithmetic[0].strip(" .,")) or number[0].strip()
    return number[0].strip()


def final_answer(completion: str, *, complete: bool = True) -> str | None:
    """The answer of a completion, or None.

    With `complete=False` (the completion ran into a limit) only an explicit answer counts: the last
    expression of an unfinished chain is no answer.
    """
    text = region(completion)
    answer = explicit(text, complete=complete)
    if answer is None and complete:
        answer = last_expression(text)
    return answer
