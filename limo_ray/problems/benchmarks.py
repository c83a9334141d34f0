"""The benchmarks that models are evaluated on, and that no training example may contain.

    items = load("math500", folder="benchmarks")      # folder/math500.jsonl, or else from the hub

Each has a hub id with its columns, and its number of items: a benchmark that came with fewer or
more is an error, never a shorter list. `limo_ray.evaluate.items` reads their answers too.
"""

import json
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from limo_ray.core.uris import redact
from limo_ray.problems.sources import SourceConfig, open_sources, rows, work_items
from limo_ray.storage.store import Store

ANSWER = ("answer", "solution", "options")  # fields in which an item may be wanting


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Where a benchmark's questions are, and how many there are (0: any number)."""

    hub: str
    items: int
    question: str = "problem"
    answer: str = "answer"
    split: str = "test"
    subset: str = ""
    answer_from: str = ""
    """How the answer is taken from its column (see problems.mappings.Mapping)."""
    wrong: tuple[str, ...] = ()
    """Columns of the wrong options of multiple choice; `answer` is then the right one."""
    by: tuple[str, ...] = ()
    """Columns by which scores are broken down."""
    checksum: str = ""
    """Of the copy that this project was tried with (items.checksum); "" where none was at hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question of a benchmark: `number` counts its rows from 1."""

    benchmark: str
    number: int
    question: str
    domain: str


# LIMO's ten (section 4.1 of the paper) and what others report. `GAIR/LIMO` has no evaluation sets;
# the sets in Chinese lie in LIMO's repository as files only: give them with `folder`. Hub ids and
# columns are those of public code that reads them; revisions can be pinned in a preset.
BENCHMARKS = {
    "aime24": Benchmark(
        hub="HuggingFaceH4/aime_2024", items=30, split="train", checksum="325498d1391d73d4"
    ),
    "aime25": Benchmark(hub="math-ai/aime25", items=30),
    "amc23": Benchmark(
        hub="math-ai/amc23", items=40, question="question", checksum="bda5a5ce821a9892"
    ),
    "math500": Benchmark(
        hub="HuggingFaceH4/MATH-500", items=500, by=("level", "subject"),
        checksum="c1e8cfbcc70c854b",
    ),
    "olympiadbench": Benchmark(
        hub="Hothan/OlympiadBench", subset="OE_TO_maths_en_COMP", split="train",
        items=0,  # 674 on the hub, 675 in the paper
        question="question", answer="final_answer[0]", by=("subfield",),
    ),
    "minerva": Benchmark(hub="math-ai/minervamath", items=272, question="question"),
    "gpqa_diamond": Benchmark(
        hub="Idavidrein/gpqa", subset="gpqa_diamond", split="train", items=198,
        question="Question", answer="Correct Answer",
        wrong=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        by=("High-level domain",),
    ),
    "gsm8k": Benchmark(
        hub="openai/gsm8k", subset="main", items=1319, question="question", answer_from="hashes"
    ),
    "gradeschool": Benchmark(hub="", items=210, checksum="40964a01f817715e"),
    "chmath": Benchmark(hub="", items=30),
    "gaokao": Benchmark(hub="", items=79),
    "kaoyan": Benchmark(hub="", items=199),
}  # fmt: skip

# arXiv 2502.03387v3, table 2: pass@1 in per cent. CHMath, AIME24 and AMC23 from 4 samples at
# temperature 0.6, the others greedy; GradeSchool and Kaoyan graded by Qwen2.5-32B-Instruct.
PAPER_MODELS = ("LIMO", "Qwen2.5-32B-Instruct", "NuminaMath-100k SFT")
PAPER = {
    "aime24": (63.3, 16.5, 6.5), "math500": (95.6, 79.4, 59.2), "amc23": (96.3, 64.0, 40.6),
    "olympiadbench": (67.6, 45.3, 36.7), "chmath": (84.2, 27.3, 11.2),
    "gaokao": (91.1, 72.1, 49.4), "kaoyan": (83.9, 48.2, 32.7),
    "gradeschool": (76.2, 56.7, 36.2), "minerva": (52.2, 41.2, 24.6),
    "gpqa_diamond": (70.7, 48.0, 25.8),
}  # fmt: skip


def load(name: str, folder: str = "") -> list[Item]:
    """The items of a benchmark, from `<folder>/<name>.jsonl` where there is one, or the hub.

    Raises:
        ValueError: no such benchmark, it cannot be had, an item cannot be read, or there are more
            or fewer items than it has.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark {name!r} is none of {', '.join(BENCHMARKS)}")
    known = BENCHMARKS[name]
    source = source_of(name, folder)
    # a question is all that is read
    tries = [replace(source, question=q, answer=q) for q in question_columns(name, source)]
    rows, used = first_readable(tries)
    if known.items and len(rows) != known.items:
        where = used.path or used.hub
        raise ValueError(f"benchmark {name}: {len(rows)} items in {where}, must be {known.items}")
    return _items(rows, name)


def source_of(name: str, folder: str) -> SourceConfig:
    """A benchmark's file in a folder of local copies, or else its data set; without columns.

    Raises ValueError for one that is in neither.
    """
    known = BENCHMARKS[name]
    if path := folder and local(folder, name):
        return SourceConfig(name=name, path=path)
    if not known.hub:
        where = f"{folder}/{name}.jsonl" if folder else "folder=<with its file>"
        raise ValueError(
            f"benchmark {name}: is not on the hub, and not in a file ({where}): copy it "
            "from the paper's repository (eval/data) as JSONL with `problem` and `answer`"
        )
    return SourceConfig(name=name, hub=known.hub, subset=known.subset, split=known.split)


def question_columns(name: str, source: SourceConfig) -> list[str]:
    """Where its question may be: a file may name its columns otherwise than the hub."""
    own = BENCHMARKS[name].question
    return list(dict.fromkeys([own, "problem", "question"])) if source.path else [own]


def first_readable(
    tries: list[SourceConfig], *, unanswered: bool = False
) -> tuple[list[dict[str, Any]], SourceConfig]:
    """Rows of the first source that can be read, and that source; ValueError with all errors."""
    errors: list[str] = []
    for source in tries:
        try:
            return rows_of(source, unanswered=unanswered), source
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; ".join(dict.fromkeys(errors)))


def of_source(source: SourceConfig, seed: int = 0) -> list[Item]:
    """All rows of a source as items; ValueError for a source or row that cannot be read."""
    return _items(rows_of(source, seed), source.label())


def _items(rows: list[dict[str, Any]], benchmark: str) -> list[Item]:
    return [
        Item(benchmark=benchmark, number=number, question=row["question"], domain=row["domain"])
        for number, row in enumerate(rows, 1)
    ]


def rows_of(
    source: SourceConfig, seed: int = 0, *, unanswered: bool = False
) -> list[dict[str, Any]]:
    """All rows of a source in its order; ValueError for a source or row that cannot be read.

    `unanswered` lets rows through that lack nothing but a usable answer, with their reason, unless
    all of them do.
    """
    opened = open_sources([source], seed)
    found: list[dict[str, Any]] = []
    first = ""
    for row in chain.from_iterable(rows(opened, item) for item in work_items(opened)):
        if row["reason"] == "not_selected":
            continue
        if row["reason"]:
            where = f"{row['file']}:{row['line']}"
            why = f"benchmark {source.label()}: {where}: {row['evidence']}"
            if not unanswered or json.loads(row["evidence"])["field"] not in ANSWER:
                raise ValueError(why)
            first = first or why
        found.append(row)
    if not found:
        raise ValueError(
            f"benchmark {source.label()}: no items in {redact(source.path or source.hub)}"
        )
    if all(row["reason"] for row in found):
        raise ValueError(first)
    return found


def local(folder: str, name: str) -> str:
    """The file of a benchmark in a folder of local copies; "" where there is none."""
    for ending in (".jsonl", ".json", ".parquet", ".csv"):
        if "://" in folder:
            if Store(folder).exists(name + ending):
                return Store(folder).within(name + ending).uri
        elif Path(path := f"{folder.rstrip('/')}/{name}{ending}").is_file():
            return path
    return ""
