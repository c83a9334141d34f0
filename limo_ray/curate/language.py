r"""The language that a question is written in.

    foreign("Encuentra todos los enteros tales que $n^2 = n$", ("en",))   -> "es"

Formulas and commands of LaTeX are no words. The script tells Chinese, Russian and the like; for
Latin text of at least WORDS words py3langid does (naive Bayes over byte n-grams, 140 languages, the
same answer on every machine): it is foreign when all allowed languages together get less than
UNLIKELY of the probability. That is set for few wrong removals: lists of names, "sin cos tan" and
tasks of one word stay.
"""

import re
from functools import cache
from typing import Any

WORDS = 4  # fewer words of Latin text are too few
UNLIKELY = 0.005  # lists of names get 0.01 for English, sentences in Spanish under 0.004
LONGEST = 3_000  # characters that are looked at

# Frequent in English questions, and no words of other languages in Latin script (as "of", "is",
# "for", "are", "let" and "by" are). Two of them make a text English.
_COMMON = (
    "the|and|what|how|many|much|find|which|from|with|each|that|then|there|this|where|when|he|she|"
    "they|his|if|has|does|did|than|compute|evaluate|simplify|solve|calculate|number|value|your|"
    "answer|enter|express|write|convert"
)
# Letters of Cyrillic, Armenian, Hebrew, Arabic, the Indian scripts, Thai, Georgian, Japanese,
# Chinese and Korean. Greek is missing: its letters are mathematics.
_OTHER = "[\u0400-\u10ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
# For Arrow (RE2): rows that match ENGLISH and not OTHER_SCRIPT are surely English.
ENGLISH = rf"(?is)\b(?:{_COMMON})\b.*\b(?:{_COMMON})\b"
OTHER_SCRIPT = _OTHER

_ENGLISH_WORD = re.compile(rf"\b(?:{_COMMON})\b", re.IGNORECASE | re.ASCII)
_FORMULA = re.compile(
    r"\$\$?[^$]*\$\$?|\\\(.*?\\\)|\\\[.*?\\\]|\[asy\].*?\[/asy\]|\\[a-zA-Z]+|https?://\S+",
    re.DOTALL,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_OTHER_LETTER = re.compile(_OTHER)
_OTHER_LANGUAGES = frozenset(
    """am ar as be bg bn fa gu he hi hy ja ka kk km kn ko ky lo mk ml mn mr my ne or pa ps ru si sr
    ta te tg th ug uk ur zh""".split()  # noqa: SIM905
)


def foreign(question: str, allowed: tuple[str, ...]) -> str | None:
    """The language of a question that is surely in none of `allowed` (ISO 639-1), or None."""
    # Counted in the whole text, as ENGLISH does for Arrow.
    english = len(_ENGLISH_WORD.findall(question)) if "en" in allowed else 0
    text = _FORMULA.sub(" ", question[:LONGEST])
    others, latin = len(_OTHER_LETTER.findall(text)), len(_LATIN.findall(text))
    # One Chinese character is about as much as three letters; in a text that stands in English as
    # well, the other script must outweigh it.
    if others >= 2 and others * (1 if english >= 2 else 3) > latin:
        if _OTHER_LANGUAGES.isdisjoint(allowed):
            return str(_likely(text)[0][0])
    elif english >= 2 or len(_WORD.findall(text)) < WORDS:
        return None
    likely = _likely(text)
    chance = sum(p for language, p in likely if language in allowed)
    # An English word among foreign ones is seldom more than a short English task.
    limit = UNLIKELY / 10 if english else UNLIKELY
    return str(likely[0][0]) if chance < limit else None


def known() -> frozenset[str]:
    """The codes of the languages that can be recognised."""
    return frozenset(_identifier().labels)


def _likely(text: str) -> list[tuple[str, float]]:
    """Languages with their probability, best first."""
    ranked: list[tuple[str, float]] = _identifier().rank(" ".join(_WORD.findall(text)))
    return ranked


@cache
def _identifier() -> Any:
    # Half a second and 70 MB: only where a row needs it.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
