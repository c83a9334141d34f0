r"""Multiple choice: letters and the texts of the options.

A gold answer is a letter ("C", "(C)", "\text{(C)}"), a text, or JSON with the options:
{"answer": "C", "options": {"A": "12", "B": "15", "C": "18"}}.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from limo_ray.core.records import Verdict
from limo_ray.verify import math
from limo_ray.verify.extract import TAIL, explicit, region

_WRAP = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit|bf|rm)\b\s*")
_PREFIX = re.compile(
    r"^(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*(?:is|:)?\s+)", re.I
)
# "C", "(C)", "C. 18", "(C) 18": what follows a letter needs a sign between them, or "a dog" is A.
_LETTER = re.compile(
    r"(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])\s*(?:[.:)\]]|$))\s*[.:]?\s*(.*)", re.DOTALL
)
# Not the article, not the pronoun: a letter in brackets, or before a stop or the end of a line.
_LAST_LETTER = re.compile(r"\(([A-J])\)|(?<![\w\\'])([A-HJ])(?=[.,;:)*\]]|\s*$)", re.MULTILINE)


class Gold(NamedTuple):
    """The right letter (None for a plain text), its text, and the texts of all letters."""

    letter: str | None
    text: str
    options: Mapping[str, str]


@lru_cache(maxsize=4096)
def gold(answer: str) -> Gold:
    """A gold answer read; ValueError when it is none."""
    if not answer.lstrip().startswith("{"):
        letter, rest = _read(answer)
        return Gold(letter, answer if letter is None else rest, {})
    try:
        row = json.loads(answer)
        options = {str(k).strip().upper(): str(v).strip() for k, v in row["options"].items()}
        right = str(row["answer"]).strip()
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ValueError(f"not a choice answer (answer, options): {answer[:200]}") from e
    letter, _ = _read(right)
    if letter not in options:
        letter = next((k for k, v in options.items() if _plain(v) == _plain(right)), None)
    if letter is None:
        raise ValueError(f"the answer is none of the options: {answer[:200]}")
    return Gold(letter, options[letter], options)


def _plain(text: str) -> str:
    """Text without LaTeX wrappers, dollars, case and white space."""
    text = _WRAP.sub("", text).replace("$", "").replace("{", "").replace("}", "").replace("\\", "")
    return "".join(text.split()).casefold().strip(".*")


def _read(text: str) -> tuple[str | None, str]:
    """The letter that an answer names and the text that follows it; (None, text) without one."""
    bare = _WRAP.sub("", text).replace("$", "").replace("{", " ").replace("}", " ").strip(" *.\n")
    match = _LETTER.fullmatch(_PREFIX.sub("", bare, count=1))
    if match is None:
        return None, text
    return (match[1] or match[2]).upper(), match[3].strip()


def extract(completion: str, *, complete: bool = True) -> str | None:
    """The last box, else what was announced, else the last capital letter that stands alone."""
    text = region(completion)
    found = explicit(text, complete=complete)
    if found is None and complete:
        letters = [a or b for a, b in _LAST_LETTER.findall(text[-TAIL:])]
        found = letters[-1] if letters else None
    return found


def easy(answer: str, extracted: str) -> Verdict | None:
    """The verdict by letter or text; None when only mathematics can say (values of options)."""
    right = gold(answer)
    said, rest = _read(extracted)
    plain = _plain(extracted)
    if said is not None and not rest and right.letter and said in right.options:
        return Verdict.CORRECT if said == right.letter else Verdict.WRONG
    if plain and plain in (_plain(answer), _plain(right.text)):
        return Verdict.CORRECT
    named = {k for k, v in right.options.items() if v and _plain(v) == plain}
    if named:
        return Verdict.CORRECT if right.letter in named else Verdict.WRONG
    if said is not None and right.letter and (not right.options or said in right.options):
        return Verdict.CORRECT if said == right.letter else Verdict.WRONG
    if not right.text:
        return Verdict.WRONG
    return math.easy(right.text, extracted)


def hard(answer: str, extracted: str) -> Verdict:
    """Whether the value of the right option is the value said, as mathematics."""
    return math.hard(gold(answer).text, extracted)


def unverifiable(answer: str) -> str | None:
    """Why a gold answer cannot be used, or None."""
    if not answer.strip():
        return "empty"
    try:
        gold(answer)
    except ValueError as e:
        return str(e)
    return None


def show(answer: str) -> str:
    """The letter with its text."""
    right = gold(answer)
    if right.letter and right.text:
        return f"{right.letter}: {right.text}"
    return right.letter or answer
