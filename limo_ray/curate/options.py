r"""Multiple-choice questions written as text: found, and turned into problems of domain "choice".

    found = options(question)                 "... \textbf{(A)}\ 3 \qquad \textbf{(B)}\ 4 ..."
    if found and is_choice(found, answer):
        named = letters(found, answer)        ["B"]
        question, answer = as_choice(found, named[0])   in the form of rows that come with options

Pure. Options are a run of labels A, B, C, ... (or a, b, c, ...) as "(A)", "A)" or "A.", with the
styles of the AMC in LaTeX and Markdown around them. A run of labels is not yet a choice: labelled
conditions, statements and points look the same. The gold answer decides, or the number of options.
"""

import json
import re
from dataclasses import dataclass

from limo_ray.core.records import Verdict
from limo_ray.curate.multi_part import asks, labels_in_order
from limo_ray.problems.problem_rows import LETTERS

# For Arrow (RE2): only rows that match can have options.
SCREEN = r"(?is)[(\s{*$]A\s?\\?[).:\x{3001}\x{ff0e}].*[^a-z]B\s?\\?[).:\x{3001}\x{ff0e}]"
_STYLE = r"(?:\\(?:textbf|mathbf|textrm|textsf|text|mathrm|mbox|hbox|rm|bf)\s?\{?\s?|\*\*|\{\s?)"
_AFTER = r"(?:\\?\s|~|\\[,;:!]){0,3}\}?(?:\*\*)?\$?"
# "(A)", "\textbf{(A)}\ ", "$\mathrm{(A) \ }$", "**(A)**", but not "f(A)"
_BRACKETED = re.compile(
    rf"(?:(?:\$\s?)?{_STYLE}|\$\s?|(?<![\w\\)}}\]^']))\(\s?([A-Ja-j])\s?\){_AFTER}"
)
# "A. ", "A) ", "**A.** ", "\text{A.}" at the start of a line or after white space
_POINTED = re.compile(
    r"(?:^|(?<=[\s;,$}]))(?:\$\s?)?(?:\\(?:textbf|text|mathrm|mathbf)\s?\{\s?|\*\*)?"
    rf"([A-Ja-j])\s?[).:\u3001\uff0e](?=[\s$\\}}*~]|[^\w\s]|\d){_AFTER}",
    re.MULTILINE,
)
_EDGES = " \t\r\n,;~&"
_SPACES = ("\\qquad", "\\quad", "\\hfill", "\\newline", "\\\\", "\\ ", "\\,", "\\;", "\\:", "\\!")
_WRAPPED = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|boxed)\s?\{([^{}]*)\}")
_SEVERAL = re.compile(r"[A-J](?:(?:\s|,|;|and|&){0,5}[A-J]){1,9}")
_NAMED = re.compile(r"\(?([A-Ja-j])\s?[).:]\s*(.+)", re.DOTALL)
_PLAIN = re.compile(r"[\w\s.,%:/+-]*", re.ASCII)
LONGEST = 20_000  # characters; options stand in no longer question


@dataclass(kw_only=True, slots=True)
class Options:
    """Where the options of a question are: `texts[i]` belongs to the letter A + i."""

    stem: str
    texts: list[str]
    upper: bool


def options(question: str) -> Options | None:
    """The options that a question lists, or None. Whether they are a choice: see `is_choice`."""
    if len(question) > LONGEST:
        return None
    best: list[re.Match[str]] = []
    for pattern in (_BRACKETED, _POINTED):
        marks = list(pattern.finditer(question))
        for upper in (True, False):  # "A. (a + b)(a - b)": brackets hold no labels here
            own = [mark for mark in marks if mark[1].isupper() == upper]
            best = max(best, labels_in_order(own, "abcdefghij", last=True), key=len)
    found = _cut(question, best) if len(best) > 1 else None
    return found if found and found.stem and all(found.texts) else None


def _cut(question: str, run: list[re.Match[str]]) -> Options:
    ends = [mark.start() for mark in run[1:]] + [len(question)]
    pieces = [question[mark.end() : end] for mark, end in zip(run, ends, strict=True)]
    # What follows the last option on lines of its own belongs to the question.
    last, line, rest = pieces[-1].strip().partition("\n")
    if line and all("\n" not in piece.strip() for piece in pieces[:-1]):
        pieces[-1] = last
    else:
        rest = ""
    inside = [_in_maths(question, mark.end()) for mark in run]
    texts = [_text(piece, maths) for piece, maths in zip(pieces, inside, strict=True)]
    stem = _trimmed(question[: run[0].start()])
    if _in_maths(stem, len(stem)):
        stem = _trimmed(stem[:-1]) if stem.endswith("$") else stem + "$"
    stem = "\n".join(text for text in (stem, rest.strip(" \n\t$")) if text)
    return Options(stem=stem, texts=texts, upper=run[0][1] == "A")


def _in_maths(text: str, at: int) -> bool:
    return (text.count("$", 0, at) - text.count("\\$", 0, at)) % 2 == 1


def _text(piece: str, maths: bool) -> str:
    """An option as text of its own: no spacing at its ends, its dollars in pairs or gone."""
    piece = "$" + piece if maths else piece
    if _in_maths(piece, len(piece)):
        piece += "$"
    piece = _trimmed(piece)
    if piece.count("$") == 2 and piece[0] == piece[-1] == "$":
        inner = _trimmed(piece[1:-1])
        return inner if _PLAIN.fullmatch(inner) else f"${inner}$"
    return piece


def _trimmed(text: str) -> str:
    """Without white space, commas and LaTeX's spacing at both ends."""
    before = None
    while text != before:
        before = text
        for space in _SPACES:
            text = text.strip(_EDGES).removeprefix(space).removesuffix(space)
    return text.removesuffix("\\").rstrip(_EDGES)


def letters(found: Options, answer: str) -> list[str]:
    """The letters (A, B, ...) that a gold answer names: by label, by text or by value."""
    labels = LETTERS[: len(found.texts)]
    gold = _WRAPPED.sub(r"\1", answer).replace("$", " ").strip()
    bare = gold.strip("().:* ")
    if not found.upper:
        bare = bare.upper() if len(bare) == 1 else bare
    if len(bare) == 1 and bare in labels:
        return [bare]
    if found.upper and _SEVERAL.fullmatch(bare.replace("(", "").replace(")", "")):
        named = sorted({letter for letter in bare if letter in labels})
        if len(named) > 1:
            return named
    both = _NAMED.fullmatch(gold)
    if both and both[1].upper() in labels:
        index = labels.index(both[1].upper())
        if _same(found.texts[index], both[2]):
            return [labels[index]]
    pairs = zip(labels, found.texts, strict=True)
    return [letter for letter, text in pairs if _same(text, answer)]


def _same(option: str, answer: str) -> bool:
    # The verifier's quick rule: exact values of numbers, else the text in a standard spelling.
    from limo_ray.verify.math import easy

    return option == answer or easy(option, answer) is Verdict.CORRECT


def is_choice(found: Options, answer: str) -> bool:
    """Whether a run of labels is a list of options to choose from.

    It is when the gold answer names labels, or is one of three or more texts, or when there are
    four or more in capitals. It is not when a text asks something itself: then the labels are
    statements before a question, or several questions.
    """
    named = letters(found, answer)
    asking = any(asks(text) for text in found.texts)
    if named and not asking:
        return found.upper or len(found.texts) >= 3
    if asking:
        # a question after the last option, or an option that is one
        return found.upper and len(named) == 1 and len(answer.strip("$().\\ ")) == 1
    return found.upper and len(found.texts) >= 4


def as_choice(found: Options, letter: str) -> tuple[str, str]:
    """Question and answer as `problem_rows.pool_row` gives them for a record with options."""
    chosen = dict(zip(LETTERS, found.texts, strict=False))
    question = found.stem + "\n" + "".join(f"\n{k}) {v}" for k, v in chosen.items())
    return question, json.dumps({"answer": letter, "options": chosen}, ensure_ascii=False)
