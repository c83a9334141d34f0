"""Filters of single problems: each looks at one row and gives a drop reason, with evidence.

    table = mark_filtered(table, FiltersConfig())          rows of the pool, with drop reasons
    objection("See www.x.org: ...", "7", "math", config)   -> ("link", {...})

The first filter that objects names the reason, cheap ones first. Ten million rows pass here, so
Arrow screens whole columns with linear-time patterns, and only the rows that some screen finds are
looked at one by one. Every filter takes time linear in the text.

Run before exact dedup: a question whose options became options proper has another id.

Which domains a filter looks at:

    language, length, image, link                            math and choice
    answer_unusable, yes_no, multiple_choice,
    several_parts, proof                                     math
    too_long                                                 all
"""

import functools
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.core.checks import check_at_least, check_one_of
from limo_ray.core.records import problem_id
from limo_ray.curate import language, multi_part, options

Count = Callable[[str], int]
Reason = tuple[str, dict[str, Any]]

# Of UTF-8, where nobody counts tokens. English has 4 to a token, LaTeX 2 to 3: what passes by this
# estimate fits the model, and a question near the limit may go although it would fit.
BYTES_PER_TOKEN = 2

# Answers that stand for none. "none" stays where the question offers it as an answer.
_OFFERED = frozenset(("none", "null", "unknown", "missing"))
_MISSING = _OFFERED | frozenset(
    (
        "n/a", "na", "nan", "nil", "notfound", "not found", "answer not found", "no answer",
        "not given", "not provided", "not available", "no answer provided", "tbd", "proof",
        "proven", "see proof", "see solution", "see the solution", "see explanation",
        "see above", "omitted",
    )
)  # fmt: skip
_YES_NO = re.compile(r"[\W_]*(yes|no|true|false)(?:[\W_]*|\s*,.*)", re.IGNORECASE | re.DOTALL)
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed)\s?\{([^{}]*)\}")
# Patterns that Arrow (RE2) and Python read alike. "![" is an image unless it follows a factorial.
_IMAGE = (
    r"(?i)\[asy\]|(?:^|[^\w)}!\]|])!\[|!\[[^\]\n]{0,60}\]\(|<img\b|<svg\b|\\includegraphics"
    r"|\\begin\{(?:tikzpicture|asy)\}"
)
_LINK = r"(?i)https?://|\bwww\.[a-z]"
_SEEN_IMAGE, _SEEN_LINK = re.compile(_IMAGE), re.compile(_LINK)
_PROSE = ("math", "choice")


@dataclass(kw_only=True, slots=True)
class FiltersConfig:
    """Which problems are dropped before anything is computed about them."""

    language: list[str] = field(default_factory=lambda: ["en"])
    """ISO 639-1 codes of the languages that stay; [] keeps all. Too short a text stays, too."""
    min_chars: int = 10
    """Shortest question, in characters."""
    max_chars: int = 8000
    """Longest question, in characters; 0 for no limit."""
    images: bool = True
    r"""Drop questions with a picture: [asy], ![...](...), <img>, \includegraphics, tikzpicture."""
    links: bool = True
    """Drop questions with http(s):// or www."""
    proofs: bool = True
    """Drop questions that ask for a proof and for no value."""
    several_parts: bool = True
    """Drop questions that ask for several things under (a), (b), ..."""
    yes_no: bool = True
    """Drop problems whose gold answer is yes, no, true or false: half of them can be guessed."""
    multiple_choice: str = "drop"
    """Questions with options in their text: drop, convert (to domain choice) or keep."""
    unusable_answers: bool = True
    """Drop problems whose gold answer is missing: empty, N/A, "not found", "proof", ..."""
    max_answer_chars: int = 500
    """Longest gold answer, in characters; 0 for no limit. It needs unusable_answers."""
    max_tokens: int = 0
    """Longest question, in tokens of the models; 0 for no limit."""

    def check(self) -> None:
        for name in ("min_chars", "max_chars", "max_answer_chars", "max_tokens"):
            check_at_least(name, getattr(self, name), 0)
        if self.max_chars and self.max_chars < self.min_chars:
            raise ValueError(f"max_chars: {self.max_chars} is less than min_chars {self.min_chars}")
        check_one_of("multiple_choice", self.multiple_choice, ("drop", "convert", "keep"))
        for code in self.language:
            if code != "en" and code not in language.known():
                raise ValueError(f"language: {code!r} is no code that is known, such as en, zh, fr")


def mark_filtered(
    table: pa.Table, config: FiltersConfig, count: Count | None = None, *, unanswered: bool = False
) -> pa.Table:
    """Fill in stage "filters", a reason and evidence (JSON) for live rows that a filter drops.

    With multiple_choice "convert" questions with options become rows of domain "choice", with a new
    id. Other rows, and rows that are dropped already, are untouched, and so is the order.

    Args:
        table: rows of the pool (schema `records.POOL`; further columns are kept).
        config: a checked config.
        count: tokens of a text, asked only where config.max_tokens may be exceeded; without it
            BYTES_PER_TOKEN estimates.
        unanswered: rows may be without an answer.
    """
    without = replace(config, unusable_answers=False) if unanswered else config
    changes: dict[str, dict[int, str]] = {}
    found = _suspects(table, config, count is not None)
    rows = table.select(["question", "answer", "domain"]).take(found).to_pylist()
    for index, row in zip(found.to_pylist(), rows, strict=True):
        rules = config if row["answer"] else without
        values = _changes(row["question"] or "", row["answer"] or "", row["domain"], rules, count)
        for name, value in values.items():
            changes.setdefault(name, {})[index] = value
    for name, new in changes.items():
        column = table.schema.get_field_index(name)
        values = _replaced(table[name], new)
        table = table.set_column(column, table.schema.field(column), values)
    return table


def _changes(
    question: str, answer: str, domain: str, config: FiltersConfig, count: Count | None
) -> dict[str, str]:
    """The columns of a row that change."""
    if why := objection(question, answer, domain, config, count):
        reason, facts = why
        evidence = json.dumps(facts, ensure_ascii=False)
        return {"stage": "filters", "reason": reason, "evidence": evidence}
    if config.multiple_choice == "convert" and domain == "math":
        found = _choice(question, answer)
        if found is not None:
            question, answer = options.as_choice(found, options.letters(found, answer)[0])
            return {
                "id": problem_id(question),
                "question": question,
                "answer": answer,
                "domain": "choice",
            }
    return {}


def _replaced(column: pa.ChunkedArray, new: dict[int, str]) -> pa.Array:
    mask = np.zeros(len(column), bool)
    rows = sorted(new)
    mask[rows] = True
    values = pa.array([new[row] for row in rows], column.type)
    return pc.replace_with_mask(column.combine_chunks(), pa.array(mask), values)


def _suspects(table: pa.Table, config: FiltersConfig, counted: bool) -> pa.Array:
    """Indices of the live rows that some filter may object to: never too few."""
    matches = pc.match_substring_regex
    question, answer = table["question"], table["answer"]
    masks = []
    if config.max_tokens:
        limit = config.max_tokens * (1 if counted else BYTES_PER_TOKEN)
        masks.append(pc.greater(pc.binary_length(question), limit))
    # Filters for prose: other domains' rows that match are seen by `objection`, which lets them go.
    masks.append(pc.less(pc.utf8_length(question), config.min_chars))
    if config.max_chars:
        masks.append(pc.greater(pc.utf8_length(question), config.max_chars))
    if config.images:
        masks.append(matches(question, _IMAGE))
    if config.links:
        masks.append(matches(question, _LINK))
    if "en" in config.language:
        english = pc.invert(matches(question, language.OTHER_SCRIPT))
        english = pc.and_(english, matches(question, language.ENGLISH))
        masks.append(pc.invert(english))
    elif config.language:
        masks.append(pc.is_valid(question))
    if config.unusable_answers:
        masks.append(pc.invert(matches(answer, "[0-9]")))
        if config.max_answer_chars:
            masks.append(pc.greater(pc.utf8_length(answer), config.max_answer_chars))
    if config.yes_no:
        masks.append(matches(answer, r"(?i)yes|no|true|false"))
    if config.multiple_choice != "keep":
        masks.append(matches(question, options.SCREEN))
    if config.several_parts:
        masks.append(matches(question, multi_part.PARTS))
    if config.proofs:
        masks.append(matches(question, multi_part.PROOFS))
    found = functools.reduce(pc.or_, masks)
    return pc.indices_nonzero(pc.and_(pc.is_null(table["reason"]), pc.fill_null(found, True)))


def objection(
    question: str, answer: str, domain: str, config: FiltersConfig, count: Count | None = None
) -> Reason | None:
    """Why a row is dropped, with the facts for the evidence, or None."""
    if domain == "math":
        if config.unusable_answers and (why := _unusable(question, answer, config)):
            return "answer_unusable", {"why": why, "answer": answer[:200]}
        if config.yes_no and _YES_NO.fullmatch(_WRAPPER.sub(r"\1", answer[:500])):
            return "yes_no", {"answer": answer[:200]}
    if domain in _PROSE:
        if len(question) < config.min_chars:
            return "length", {"chars": len(question), "min_chars": config.min_chars}
        if config.max_chars and len(question) > config.max_chars:
            return "length", {"chars": len(question), "max_chars": config.max_chars}
        if config.images and (found := _SEEN_IMAGE.search(question)):
            return "image", _around(question, found)
        if config.links and (found := _SEEN_LINK.search(question)):
            return "link", _around(question, found)
    if config.max_tokens and (tokens := _tokens(question, config.max_tokens, count)):
        return "too_long", {"tokens": tokens, "max_tokens": config.max_tokens}
    if domain in _PROSE and config.language:
        code = language.foreign(question, tuple(config.language))
        if code is not None:
            return "language", {"language": code, "allowed": config.language}
    return _asked(question, answer, config) if domain == "math" else None


def _asked(question: str, answer: str, config: FiltersConfig) -> Reason | None:
    """Objections to what a question asks for: options, several things, a proof."""
    if found := _choice(question, answer):
        named = options.letters(found, answer)
        if config.multiple_choice == "keep" or (
            config.multiple_choice == "convert" and len(named) == 1
        ):
            return None
        facts: dict[str, Any] = {
            "options": [text[:80] for text in found.texts],
            "answer": answer[:80],
        }
        if config.multiple_choice == "convert":
            facts["why"] = f"the answer names {', '.join(named) or 'none'} of the options"
        return "multiple_choice", facts
    if config.several_parts and (labels := multi_part.several_parts(question, answer)):
        return "several_parts", {"text": labels[:200]}
    if config.proofs and (command := multi_part.proof(question)):
        return "proof", {"text": command}
    return None


def _choice(question: str, answer: str) -> options.Options | None:
    found = options.options(question)
    return found if found and options.is_choice(found, answer) else None


def _unusable(question: str, answer: str, config: FiltersConfig) -> str | None:
    if all(char == "$" or unicodedata.category(char)[0] in "PZC" for char in answer):
        return "nothing but punctuation" if answer.strip() else "empty"
    plain = answer[:40].strip(" \t\n.!?$()[]\"'*-").lower()
    if plain in _MISSING and not (plain in _OFFERED and plain in question.lower()):
        return "a word for no answer"
    if config.max_answer_chars and len(answer) > config.max_answer_chars:
        return f"{len(answer)} characters, more than {config.max_answer_chars}"
    return None


def _tokens(question: str, limit: int, count: Count | None) -> int:
    """Tokens of a question that has more than `limit`, else 0."""
    size = len(question.encode("utf-8", "surrogatepass"))
    if size <= limit:  # a token is at least one byte
        return 0
    tokens = size // BYTES_PER_TOKEN if count is None else count(question)
    return tokens if tokens > limit else 0


def _around(text: str, found: re.Match[str]) -> dict[str, str]:
    return {"text": text[max(0, found.start() - 20) : found.end() + 60]}
