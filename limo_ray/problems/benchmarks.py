"""The benchmarks that models are evaluated on, and that no training example may contain.

    items = load("math500", folder="benchmarks")      # folder/math500.jsonl, or else from the hub

Each has a hub id or a pinned file, its columns, and its number of items: a benchmark that came with
fewer or more is an error, never a shorter list. `limo_ray.evaluate.items` reads their answers too.
"""

import json
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from limo_ray.core.uris import redact
from limo_ray.problems.sources import SourceConfig, open_sources, rows, work_items
from limo_ray.storage import pinned_files
from limo_ray.storage.pinned_files import GITHUB, PinnedFile
from limo_ray.storage.store import Store

ANSWER = ("answer", "solution", "options")  # fields in which an item may be wanting


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Where a benchmark's questions are, and how many there are (0: any number)."""

    hub: str = ""
    """Id of its data set; "" where it is not on the hub."""
    revision: str = ""
    """Commit of the data set; "" where none is known: its newest."""
    file: PinnedFile | None = None
    """Where it is a file of a public repository."""
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


def _of_limo(folder: str, sha256: str) -> PinnedFile:
    """An evaluation set of the paper's repository, whose README says MIT."""
    return PinnedFile(
        repository="GAIR-NLP/LIMO", commit="2284c6a0e6653aa8894bd12fdecc1212ba706c3a",
        path=f"eval/data/{folder}/test.jsonl", sha256=sha256, licence="MIT",
    )  # fmt: skip


# LIMO's ten (section 4.1 of the paper) and what others report. `GAIR/LIMO` has no evaluation sets;
# those that are on no hub come from the paper's repository. Hub ids, commits and columns are those
# of public code that reads them.
BENCHMARKS = {
    "aime24": Benchmark(
        hub="HuggingFaceH4/aime_2024", revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        items=30, split="train", checksum="325498d1391d73d4",
    ),
    "aime25": Benchmark(
        hub="math-ai/aime25", revision="563bb8404243c5f09de6ec262f2db674fe5bce9b", items=30
    ),
    "amc23": Benchmark(
        hub="math-ai/amc23", revision="80815d37005feb82cd7f8fbc6901d5d3eff43057", items=40,
        question="question", checksum="bda5a5ce821a9892",
    ),
    "math500": Benchmark(
        hub="HuggingFaceH4/MATH-500", revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        items=500, by=("level", "subject"), checksum="c1e8cfbcc70c854b",
    ),
    "olympiadbench": Benchmark(
        hub="Hothan/OlympiadBench", revision="91184b52131e7fc9455fef848035173aea8cc01a",
        subset="OE_TO_maths_en_COMP", split="train",
        items=0,  # 674 on the hub, 675 in the paper
        question="question", answer="final_answer[0]", by=("subfield",),
    ),
    "minerva": Benchmark(
        hub="math-ai/minervamath", revision="ee46ddc498933b1977577953250ca5c66be64f96", items=272,
        question="question",
    ),
    "gpqa_diamond": Benchmark(
        hub="Idavidrein/gpqa", revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        subset="gpqa_diamond", split="train", items=198,
        question="Question", answer="Correct Answer",
        wrong=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        by=("High-level domain",),
    ),
    "gsm8k": Benchmark(
        hub="openai/gsm8k", revision="740312add88f781978c0658806c59bc2815b9866", subset="main",
        items=1319, question="question", answer_from="hashes",
    ),
    "gradeschool": Benchmark(
        items=210, checksum="40964a01f817715e", file=_of_limo(
            "grade_school_math", "92d8ebf64c8790aecd524703a1400cc2adf4e6680af1cdaf1a0651e3187d200e"
        ),
    ),
    "chmath": Benchmark(
        items=30, file=_of_limo(
            "cn_math_2024", "f6392e72e776ac37f74444d4dd5d2f2e4bf4a16615ff5cafcf426df4406f7533"
        ),
    ),
    "gaokao": Benchmark(
        items=79, question="question", file=_of_limo(
            "gaokao", "1b859ca17ccb0bfff985b1097208c2501ac363cbb1c58992e2cf51021c79a9c3"
        ),
    ),
    "kaoyan": Benchmark(
        items=199, file=_of_limo(
            "kaoyan", "b81d7b79b7da0cce7894c97e55d4690417a1178303a9c5be3a47fae39fee99c7"
        ),
    ),
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


def load(
    name: str, folder: str = "", store: Store | None = None, mirror: str = GITHUB
) -> list[Item]:
    """The items of a benchmark; where they are looked for says `source_of`.

    Raises:
        ValueError: no such benchmark, it cannot be had, an item cannot be read, or there are more
            or fewer items than it has.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark {name!r} is none of {', '.join(BENCHMARKS)}")
    known = BENCHMARKS[name]
    source = source_of(name, folder, store, mirror)
    # a question is all that is read
    tries = [replace(source, question=q, answer=q) for q in question_columns(name, source)]
    rows, used = first_readable(tries)
    if known.items and len(rows) != known.items:
        where = used.path or used.hub
        raise ValueError(f"benchmark {name}: {len(rows)} items in {where}, must be {known.items}")
    return _items(rows, name)


def source_of(
    name: str, folder: str, store: Store | None = None, mirror: str = GITHUB
) -> SourceConfig:
    """A benchmark's file in the folder, its data set, or its pinned file; without columns.

    Args:
        folder: may have <name>.jsonl.
        store: keeps pinned files; without one they are not fetched.
        mirror: has them under the paths of GitHub's.

    Raises:
        ValueError: it is not on the hub, and no file of it can be had.
    """
    known = BENCHMARKS[name]
    if path := folder and local(folder, name):
        return SourceConfig(name=name, path=path)
    if known.hub:
        return SourceConfig(
            name=name, hub=known.hub, subset=known.subset, split=known.split,
            revision=known.revision,
        )  # fmt: skip
    advice = f"put {name}.jsonl with `problem` and `answer` into a folder and say folder=<it>"
    if known.file is None or store is None:
        looked = f", and not in {folder}/{name}.jsonl" if folder else ""
        raise ValueError(f"benchmark {name}: is not on the hub{looked}, {advice}")
    try:
        path = pinned_files.fetch(known.file, store, mirror)
    except ValueError as error:
        raise ValueError(f"benchmark {name}: {error}; set mirror, or {advice}") from None
    return SourceConfig(name=name, path=path)


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
