# ruff: noqa: RUF001
"""Decontamination: every way an item can hide in a question, and questions that only look it."""

import json
import pickle
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from limo_ray.problems import gym
from limo_ray.problems.benchmarks import Item, load
from limo_ray.problems.decontaminate import DecontaminateConfig, Index
from limo_ray.problems.matchers import SHOWN
from limo_ray.problems.near_duplicates import PROCEDURAL, NearConfig, band_keys
from limo_ray.problems.sources import SourceConfig
from limo_ray.problems.text_features import Features

DATA = Path(__file__).parents[3] / "shared" / "data"

CLIPS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in "
    "May. How many clips did Natalia sell altogether in April and May?"
)
LATEX = (
    r"Let $x$ be a real number with $\frac{x+1}{3} \le 1{,}000$ and $x^2 \neq 16$. "
    r"Find the largest possible value of $x \cdot \sqrt{2}$."
)
SHORT = "What is the area of a circle with radius 7?"
SUM = "Compute $3 + 4 \\cdot 5$."
CHINESE = "计算：$\\frac{2}{37}+\\frac{20}{37}+\\frac{200}{37}$"


SHOWING = "abcdefghij"


def items(*questions, domain="math", benchmark="bench"):
    return [
        Item(benchmark=benchmark, number=number, question=question, domain=domain)
        for number, question in enumerate(questions, 1)
    ]


ITEMS = items(CLIPS, LATEX, SHORT, SUM, CHINESE)


def find(questions, known=ITEMS, domain="math", **config):
    index = Index(known, DecontaminateConfig(**config), NearConfig())
    return search(index, questions, domain)


def search(index, questions, domain="math"):
    found = Features.of(questions)
    made = np.full(len(questions), domain in PROCEDURAL)
    matches = index.find(questions, found, made, band_keys(found, made, index.near))
    assert len(matches) == len(questions)
    return matches


def how(question, known=ITEMS, **more):
    """(match, item number) or None"""
    (match,) = find([question], known, **more)
    return match and (match.match, match.item)


# found


@pytest.mark.parametrize("number", range(1, 6))
def test_an_item_itself(number):
    (match,) = find([ITEMS[number - 1].question])
    assert (match.benchmark, match.item, match.match, match.share) == ("bench", number, "same", 1.0)


@pytest.mark.parametrize(
    ("question", "number"),
    [
        (CLIPS.upper(), 1),
        (CLIPS.replace("48", "４８").replace(",", " –"), 1),
        (
            "Let x be a real number with (x+1)/3 ≤ 1000 and x² ≠ 16. "
            "Find the largest possible value of x √2.",
            2,
        ),
        (LATEX.replace("\\frac", "\\dfrac").replace("$", "\\("), 2),
        ("Let $x$ be a real number with $ \\left( \\tfrac{x + 1} 3 \\right) \\leqslant 1,000$ and "
         "$x^{2} \\ne 16$. Find the LARGEST possible value of $x\\,\\sqrt 2$", 2),
        ("what is the area of a circle, with radius seven", 3),
        ("Find the area of a circle with radius 7.", 3),
        ("3+4×5", 4),
        ("What is the value of 3 + 4*5 ?", 4),
        ("Please evaluate the following expression: 3+4·5", 4),
        ("计算: 2/37 + 20/37 + 200/37", 5),
    ],
)  # fmt: skip
def test_an_item_reformatted(question, number):
    assert how(question) == (number and ("same", number))


@pytest.mark.parametrize("number", range(1, 6))
def test_an_item_embedded_in_longer_text(number):
    question = ITEMS[number - 1].question
    before = "It was a rainy Monday in Oslo and the market was full of students."
    after = "Give the result as an integer. Show all of your steps and explain them well."
    for text in (f"{before} {question}", f"{question}\n{after}", f"{before}\n\n{question} {after}"):
        assert how(text) == ("embedded", number)
        assert how(text, domain="gym") == ("embedded", number)


def test_a_short_item_as_a_sentence_alone_or_quoted():
    known = items("What is 2 + 2?")
    assert how("2+2", known) == ("same", 1)
    for text in (
        "Tom asks: what is 2 + 2?",
        "Read carefully. What is 2 + 2? Think twice.",
        "Question 5\nwhat is 2+2\nAnswer in words",
        "Tom was asked “What is 2 + 2?” by his teacher.",
    ):
        assert how(text, known) == ("embedded", 1)


def test_a_short_item_inside_a_longer_expression_is_another_problem():
    known = items("What is 2 + 2?", "Compute 3 + 4 * 5", SHORT)
    for text in (
        "What is 2 + 2 + 2?",
        "What is 12 + 2?",
        "What is 2 + 2 * 7?",
        "Compute 3 + 4 * 5 + 7",
        "Compute 3 + 4 * 5 / 3 for me",
        "What is the area of a circle with radius 7.5?",
    ):
        assert how(text, known) is None, text
    assert how("If 2 + 2 to Tom is 5 to Anna, who is right?", items("2 + 2")) is None
    assert how("So compute 3 + 4 * 5 and tell Tom", known) == ("embedded", 2)


def test_a_short_item_of_two_sentences():
    known = items("Anna is 3. How old?")
    assert how("Listen. Anna is 3. How old? Think.", known) == ("embedded", 1)
    assert how("Listen. Anna is 3. Think. How old?", known) is None


def test_an_item_that_is_only_lead_in_words_is_no_core():
    known = items("Find the area", "What is the answer?")
    assert how("Area", known) is None and how("Solve the problem.", known) is None
    assert how("find the AREA!", known) == ("same", 1)


def test_an_item_with_some_words_replaced():
    text = CLIPS.replace("altogether", "overall")
    (match,) = find([text], coverage=1.0)
    assert match.match == "near" and match.item == 1 and 0.8 <= match.share < 1
    assert how(text.replace("48", "58"), coverage=1.0) is None


def test_a_shared_run_of_eight_tokens():
    run = "Natalia sold clips to 48 of her friends in April"
    text = f"Last year {run}; in May she rested. How many friends bought any?"
    (match,) = find([text])
    assert (match.match, match.item) == ("shared", 1)
    assert match.shared == run.lower()
    assert match.share == pytest.approx(10 / 21)  # of the question, which is shorter than the item


def test_the_item_that_more_is_shared_with_is_named():
    other = CLIPS.replace("How many clips did Natalia", "What did Natalia eat, or")
    known = items("He " + CLIPS, other, "Now " + other)
    text = "Then " + other.partition(" or")[0] + " and why did all the others leave so early?"
    assert how(text, known, coverage=0.3)[1] in (2, 3)
    long_run = CLIPS.partition(", and")[0] + " while it was raining in the town where he lived"
    assert how(long_run, items("Zed likes pears", CLIPS)) == ("shared", 2)


# not found


@pytest.mark.parametrize(
    "question",
    [
        "",
        "?",
        "Tom has 3 apples and eats one. How many are left?",
        CLIPS.replace("48", "72"),
        CLIPS.replace("half", "twice"),
        LATEX.replace("16", "25"),
        LATEX.replace(r"\le ", r"\ge "),
        LATEX.replace("largest", "smallest"),
        SHORT.replace("7", "8"),
        SHORT.replace("area", "circumference"),
        SUM.replace("+", "-"),
        SUM.replace("5", "55"),
        CHINESE.replace("200", "300"),
    ],
)
def test_questions_that_ask_for_something_else_stay(question):
    assert how(question) is None


def test_coverage_and_numbers_decide_over_shared_runs():
    # nine tokens in common of the item's 28
    run = "sold half as many clips in May. How many"
    text = f"Tom {run} pens in June and July are blue, red and green?"
    assert how(text, numbers=0) == ("shared", 1)
    assert how(text, numbers=0, coverage=0.5) is None
    # of the item's numbers and operations, 48 and half, the half is in the run: one of two
    assert how(text, numbers=0.5) == ("shared", 1)
    bare = "and then she sold half as many clips in May"
    assert how(f"{bare} with 3 + 4 * 5 more", numbers=0.5) == ("shared", 1)
    assert how(f"{bare} with 3 + 4 * 5 more", numbers=0.6) is None
    far = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(200))
    assert how(f"{far} {run} {far}") == ("shared", 1)  # a third of the item, the shorter text
    assert how(f"{far} {run} {far}", known=items(f"{CLIPS} {far[::-1]}")) is None


def test_without_coverage_and_numbers_any_shared_run_counts():
    """s1's rule."""
    bare = {"coverage": 0, "numbers": 0}
    long = " ".join(f"w{chr(97 + n % 26)}{chr(97 + n // 26)}x" for n in range(300))
    known = items(f"{long} in the middle of a town there stands a tower {long[::-1]}")
    text = f"{long[::-1].upper()} in the middle of a town there stands 7 + 8".replace("X", "Q")
    assert how(text, known) is None and how(text, known, coverage=0) == ("shared", 1)
    assert how(text, known, **bare) == ("shared", 1)
    assert how(text, known, ngram=12, **bare) is None
    assert how(CLIPS.replace("48", "72"), **bare) == ("shared", 1)
    assert how("clips in May. How many clips did", **bare) is None  # seven tokens
    assert how("clips in May. How many clips did", ngram=7, **bare) == ("shared", 1)


# made problems


def made(kind, begin, end, **settings):
    return [each["question"] for each in gym.problems(kind, settings, 0, begin, end)]


@pytest.mark.parametrize("kind", ["gcd", "leg_counting", "n_queens", "mini_sudoku"])
def test_made_problems_go_only_where_their_content_is_an_items(kind):
    texts = list(dict.fromkeys(made(kind, 0, 60)))
    held, rest = texts[:15], texts[15:]
    for domain in ("gym", "math"):
        known = items(*held, domain=domain)
        if domain == "math" and kind in ("n_queens", "mini_sudoku"):
            continue  # only of made problems is it known that a coordinator may be all there is
        found = find([*held, *rest], known, domain="gym")
        assert [match and match.item for match in found[:15]] == list(range(1, 16))
        assert not any(found[15:])


def test_made_items_do_not_take_real_questions_that_share_their_words():
    text = "Find the Greatest Common Divisor (GCD) of these numbers: 12, 18. Give only the GCD."
    known = items(text, domain="gym")
    other = text.replace("12, 18", "20, 35")
    assert how(other, known) is None and how(other, known, coverage=0, numbers=0) is None
    assert how(text.lower(), known) == ("same", 1)
    assert how(other, items(text), coverage=0, numbers=0) == ("shared", 1)
    assert how(other, items(text), coverage=0, numbers=0, domain="gym") is None


@pytest.mark.parametrize("domain", ["gym", "math"])
def test_a_sibling_with_the_same_numbers_and_other_words_is_another_problem(domain):
    """Also where nobody says that the question was made, as in a model's training data."""
    asked = "Your task is to count legs when given a list of animals. How many legs have 4 {}?"
    known = items(asked.format("snakes"), domain="gym")
    assert how(asked.format("crickets"), known, domain=domain) is None
    assert how(asked.format("snakes"), known, domain=domain) == ("same", 1)


def test_a_board_in_longer_text_is_found():
    one, other = made("n_queens", 0, 2)
    known = items(one, domain="gym")
    assert how(f"Think well.\n{one}", known, domain="gym") == ("embedded", 1)
    assert how(f"Think well.\n{other}", known, domain="gym") is None


# the rest


def test_without_items_nothing_is_found():
    assert find([CLIPS, ""], known=[]) == [None, None]
    assert find([], known=[]) == [] == find([])


def test_an_item_without_tokens_is_an_error():
    with pytest.raises(ValueError, match=r"benchmark bench: item 2 has no words .*'\.\.\.'"):
        Index(items("x", "..."), DecontaminateConfig(), NearConfig())


def test_templates_in_the_pool_do_not_make_items_of_their_siblings():
    near = NearConfig(numbers="template", per_template=3)
    index = Index(ITEMS, DecontaminateConfig(coverage=1.0), near)
    assert search(index, [CLIPS.replace("48", "72")]) == [None]
    assert search(index, [CLIPS.replace("altogether", "overall")])[0].match == "near"


def test_the_evidence_names_benchmark_item_and_shared_text():
    question = "Please note. " + CLIPS + "".join(f" {a}{b}x" for a in SHOWING for b in SHOWING)
    (match,) = find([question])
    evidence = match.evidence(question)
    assert json.loads(json.dumps(evidence)) == evidence
    assert evidence == {
        "benchmark": "bench",
        "item": 1,
        "match": "embedded",
        "share": 1.0,
        "shared": re.sub(r"[.,?]", "", CLIPS).lower(),
        "question": question[:200],
    }
    long = " ".join(f"{n} +" for n in range(500))
    (match,) = find([long], items(long))
    assert match.shared.split() == long.split()[:SHOWN]


def test_each_of_several_benchmarks_is_named_and_every_question_gets_its_own():
    known = items(CLIPS, benchmark="one") + items(SHORT, LATEX, benchmark="two")
    found = find([LATEX, "nothing", SHORT, CLIPS, LATEX.lower()], known)
    assert [match and (match.benchmark, match.item) for match in found] == [
        ("two", 2), None, ("two", 1), ("one", 1), ("two", 2),
    ]  # fmt: skip


def test_a_question_has_the_same_match_in_any_batch():
    rng = random.Random(0)
    questions = [item.question for item in ITEMS] + [
        "Now. " + SUM, "x " + SHORT, CLIPS.replace("May", "June"), "", CLIPS[:70], CHINESE + "！",
    ]  # fmt: skip
    alone = {question: find([question])[0] for question in questions}
    for _ in range(5):
        rng.shuffle(questions)
        assert find(questions) == [alone[question] for question in questions]


def test_an_index_travels():
    index = pickle.loads(pickle.dumps(Index(ITEMS, DecontaminateConfig(), NearConfig())))
    assert search(index, [CLIPS])[0].item == 1


@pytest.mark.parametrize(
    "hostile", ["2 + 2 + ", "what is 2 + 2 and ", CLIPS[:60] + " ", "2 ", "3+4*5 x ", CLIPS + " 7 "]
)
def test_texts_that_repeat_an_item_take_no_longer(hostile):
    known = [*ITEMS, *items("2 + 2", "what is 2 + 2", "2")]
    started = time.thread_time()
    find([hostile * (100_000 // len(hostile))], known)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("benchmarks", ["aime24", "aime1924"]), ("ngram", 2), ("ngram", 101), ("coverage", -0.1),
        ("coverage", 1.5), ("numbers", 2), ("files", [SourceConfig(name="x")]),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}") as e:
        DecontaminateConfig(**{field: value}).check()
    if field not in ("files", "benchmarks"):
        assert str(value) in str(e.value)
    DecontaminateConfig(benchmarks=["aime24"], ngram=3, coverage=0, numbers=1).check()


# real data


def real(path):
    if not path.exists():
        pytest.skip(f"no {path.name}: this test wants real data in {DATA}")
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file if line.strip()]


@pytest.fixture(scope="module")
def index():
    known = []
    for name in ("aime24", "amc23", "gradeschool", "math500"):
        real(DATA / "benchmarks" / f"{name}.jsonl")
        known += load(name, str(DATA / "benchmarks"))
    return Index(known, DecontaminateConfig(), NearConfig())


def replaced(text, spellings):
    """Commands and characters put for others."""
    for one, other in spellings.items():
        end = r"(?![a-zA-Z])" if one[-1].isalpha() else ""
        text = re.sub(re.escape(one) + end, lambda _, other=other: other, text)
    return text


def restyled(text):
    """The same text in another LaTeX style, case, spacing and spelling of numbers."""
    spellings = {
        r"\dfrac": r"\frac", r"\frac": r"\tfrac", r"\left": "", r"\right": "", r"\le": r"\leq",
        r"\cdot": r"\times", r"^\circ": r"^{\circ}", "$": " $ ", ",000": "{,}000", "×": r"\times",
    }  # fmt: skip
    text = replaced(text, spellings)
    return re.sub(r"(?<![\\a-zA-Z])[a-z]+(?![a-zA-Z])", lambda word: word[0].upper(), text)


def in_unicode(text):
    """The same text with the characters of Unicode for LaTeX, and numbers in full width."""
    spellings = {
        r"\leq": "≤", r"\le": "≤", r"\geq": "≥", r"\ge": "≥", r"\pi": "π", r"\cdot": "·",
        r"\times": "×", r"^\circ": "°", "^2": "²", r"\infty": "∞", "$": "", "'": "’", "+": "＋",
        r"\theta": "θ", " ": "\u00a0",
    }  # fmt: skip
    text = replaced(text, spellings)
    return re.sub(r"(?<![\\{\d_^])[0-9]", lambda digit: chr(ord(digit[0]) + 0xFEE0), text)


@pytest.mark.parametrize("rewrite", [str, restyled, in_unicode])
def test_every_item_of_the_real_benchmarks_is_found(index, rewrite):
    known = index.items
    assert len(known) > 700
    found = search(index, [rewrite(item.question) for item in known])
    missed = [item.question for item, match in zip(known, found, strict=True) if match is None]
    assert missed == []
    if rewrite is str:
        assert {match.match for match in found} == {"same"}
    # (question, number) of an item that another one repeats word for word may be the other's
    named = [(match.benchmark, match.item) for match in found]
    right = sum(pair == (i.benchmark, i.number) for pair, i in zip(named, known, strict=True))
    assert right >= len(known) - 10


def test_every_item_is_found_in_longer_text(index):
    texts = [
        f"This was asked in Oslo on a rainy day.\n{item.question}\nExplain each of your steps."
        for item in index.items
    ]
    found = search(index, texts)
    assert [i.question for i, match in zip(index.items, found, strict=True) if not match] == []
    assert {match.match for match in found} <= {"embedded", "near"}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("gsm8k_train", ["question"]),
        ("asdiv", ["body", "question"]),
        ("mawps", ["input"]),
        ("svamp", ["Body", "Question"]),
    ],
)
def test_real_problems_of_other_sets_stay(index, name, columns):
    rows = real(DATA / "pool" / f"{name}.jsonl")
    questions = [" ".join(row[column] for column in columns) for row in rows]
    found = [match for match in search(index, questions) if match]
    assert len(found) < 0.001 * len(questions), found
