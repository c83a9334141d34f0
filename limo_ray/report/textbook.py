"""The chosen problems as a textbook: one self-contained HTML page to study from, or to print.

    render_textbook(title, problems, exercises)   ->   the page as text

A chapter for each subject, easy problems first. Each problem has hints taken from its chain and the
worked solution, both folded away on the screen and open in print. Formulas are MathML: nothing is
fetched from a network.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from markupsafe import Markup

from limo_ray.report.latex_html import render, render_answer
from limo_ray.report.templates import clean, environment

HINTS = 2
INDEX_TERMS = 200
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W\d_]{4,}")
_FORMULA = re.compile(r"\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-zA-Z]+", re.S)
_THINK = re.compile(r"</?think>")
# Words of many questions that say nothing about their subject.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """what that which with from have find given give your final answer such then this there
        these where when many much each every following only value number numbers does result
        problem same their they than some between determine compute calculate solve state about
        into also both other more must will would could should were been being after before over
        under total suppose express form integer positive least most equal equals""",
    )
)


@dataclass(kw_only=True, slots=True)
class BookProblem:
    """A problem of the book; without a solution it is an exercise."""

    question: str
    answer: str
    subject: str
    pass_rate: float
    """Of the strong model, 0 to 1: a high one is an easy problem."""
    origin: str
    """Where the problem came from, in words."""
    solution: str = ""
    teacher: str = ""


@dataclass(kw_only=True, slots=True)
class _Entry:
    """A problem as the template shows it."""

    number: str
    question: Markup
    answer: Markup
    hints: list[Markup]
    solution: Markup
    origin: str
    teacher: str
    rate: float


@dataclass(kw_only=True, slots=True)
class _Chapter:
    number: int
    title: str
    problems: list[_Entry] = field(default_factory=list)
    exercises: list[_Entry] = field(default_factory=list)


def render_textbook(title: str, problems: list[BookProblem], exercises: list[BookProblem]) -> str:
    """The page as text that encodes as UTF-8; the same input makes the same page.

    Args:
        problems: with their solutions.
        exercises: for the ends of the chapters; those of subjects without problems are left out.
    """
    by_subject: dict[str, list[BookProblem]] = defaultdict(list)
    for problem in problems:
        by_subject[problem.subject].append(problem)
    chapters = []
    mentions: dict[str, list[str]] = defaultdict(list)
    for number, subject in enumerate(sorted(by_subject), 1):
        chapter = _Chapter(number=number, title=subject)
        for place, problem in enumerate(_easy_first(by_subject[subject]), 1):
            chapter.problems.append(_entry(f"{number}.{place}", problem))
            for word in _terms(problem.question):
                mentions[word].append(f"{number}.{place}")
        extra = _easy_first([each for each in exercises if each.subject == subject])
        chapter.exercises = [_entry(f"{number}.E{i}", each) for i, each in enumerate(extra, 1)]
        chapters.append(chapter)
    page = environment(autoescape=True).get_template("textbook.html.j2")
    return clean(
        page.render(
            title=title,
            chapters=chapters,
            problems=len(problems),
            exercises=sum(len(chapter.exercises) for chapter in chapters),
            index=_index(mentions, len(problems)),
        )
    )


def hints(problem: BookProblem) -> list[str]:
    """Up to HINTS sentences of the solution that do not repeat the question or give the answer."""
    asked = set(_WORD.findall(problem.question.lower()))
    answer = re.escape(problem.answer.strip())
    gives_away = re.compile(rf"(?<![\w.]){answer}(?![\w])|boxed|answer is", re.IGNORECASE)
    found = []
    for sentence in _SENTENCE.split(_THINK.sub("", problem.solution)):
        sentence = sentence.replace("**", "").strip(" *#-")
        words = set(_WORD.findall(sentence.lower()))
        repeats = words and len(words & asked) / len(words) > 0.8
        usable = 25 <= len(sentence) <= 240 and not sentence.endswith(":")
        if usable and not repeats and not gives_away.search(sentence):
            found.append(sentence)
    if len(found) <= HINTS:
        return found
    return [found[0], found[len(found) // 3]] if len(found) // 3 else found[:HINTS]


def _entry(number: str, problem: BookProblem) -> _Entry:
    return _Entry(
        number=number,
        question=render(problem.question),
        answer=render_answer(problem.answer),
        hints=[render(hint) for hint in hints(problem)],
        solution=render(_THINK.sub("", problem.solution).strip()),
        origin=problem.origin,
        teacher=problem.teacher,
        rate=problem.pass_rate,
    )


def _easy_first(problems: list[BookProblem]) -> list[BookProblem]:
    return sorted(problems, key=lambda each: (-each.pass_rate, len(each.solution), each.question))


def _terms(question: str) -> set[str]:
    return set(_WORD.findall(_FORMULA.sub(" ", question).lower())) - _COMMON


def _index(mentions: dict[str, list[str]], problems: int) -> list[tuple[str, list[str]]]:
    """Terms that tell problems apart, with the problems that have them, in alphabetical order."""
    most = max(3, problems // 8)
    counts = Counter({word: len(where) for word, where in mentions.items()})
    chosen = [word for word, count in counts.most_common() if 2 <= count <= most][:INDEX_TERMS]
    return [(word, mentions[word]) for word in sorted(chosen)]
