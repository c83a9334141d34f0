"""The benchmarks that models are evaluated on, and that no training example may contain.

    items = load("math500", folder="benchmarks")      # folder/math500.jsonl, or else from the hub

Each has a hub id with its columns, and its number of items: a benchmark that came with fewer or
more is an error, never a shorter list.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from limo_ray.curate.sources import SourceConfig, cut, items, open_sources, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Where a benchmark's questions are, and how many there are (0: any number)."""

    hub: str
    items: int
    question: str = "problem"
    answer: str = "answer"
    split: str = "test"
    subset: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question of a benchmark: `number` counts its rows from 1."""

    benchmark: str
    number: int
    question: str
    domain: str


# LIMO's ten (section 4.1 of the paper) and what others report. `GAIR/LIMO` has no evaluation sets;
# the sets in Chinese lie in LIMO's repository as files only: give them with `folder`.
BENCHMARKS = {
    "aime24": Benchmark(hub="HuggingFaceH4/aime_2024", items=30, split="train"),
    "aime25": Benchmark(hub="math-ai/aime25", items=30),
    "amc23": Benchmark(hub="math-ai/amc23", items=40, question="question"),
    "math500": Benchmark(hub="HuggingFaceH4/MATH-500", items=500),
    "olympiadbench": Benchmark(
        hub="Hothan/OlympiadBench", subset="OE_TO_maths_en_COMP", split="train",
        items=0,  # 674 on the hub, 675 in the paper
        question="question", answer="final_answer[0]",
    ),
    "minerva": Benchmark(hub="math-ai/minervamath", items=272, question="question"),
    "gpqa_diamond": Benchmark(
        hub="Idavidrein/gpqa", subset="gpqa_diamond", split="train", items=198,
        question="Question", answer="Correct Answer",
    ),
    "gsm8k": Benchmark(hub="openai/gsm8k", subset="main", items=1319, question="question"),
    "gradeschool": Benchmark(hub="", items=210),
    "chmath": Benchmark(hub="", items=30),
    "gaokao": Benchmark(hub="", items=79),
    "kaoyan": Benchmark(hub="", items=199),
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
    path = folder and _local(folder, name)
    if not path and not known.hub:
        where = f"{folder}/{name}.jsonl" if folder else "no folder is given"
        raise ValueError(f"benchmark {name}: is not on the hub, and not in a file ({where})")
    # A question is all that is read: the file of a benchmark may name its columns otherwise.
    source = SourceConfig(
        name=name, path=path, hub="" if path else known.hub, subset="" if path else known.subset,
        split="train" if path else known.split, question=known.question, answer=known.question,
    )  # fmt: skip
    try:
        found = of_source(source)
    except ValueError as first:
        if not path:
            raise
        other = "question" if known.question == "problem" else "problem"
        try:
            found = of_source(replace(source, question=other, answer=other))
        except ValueError as second:
            raise ValueError(f"{first}; with the column {other!r}: {second}") from second
    if known.items and len(found) != known.items:
        raise ValueError(
            f"benchmark {name}: {len(found)} items in {path or known.hub}, must be {known.items}"
        )
    return found


def of_source(source: SourceConfig, seed: int = 0) -> list[Item]:
    """All rows of a source as items; ValueError for a source or row that cannot be read."""
    opened = open_sources([source], seed)
    found: list[Item] = []
    for item in items(opened):
        for part in cut(opened, item):
            for row in rows(opened, part):
                if row.get("reason") == "not_selected":
                    continue
                if row.get("reason"):
                    place = f"{row['file']}:{row['line']}"
                    raise ValueError(f"benchmark {source.label()}: {place}: {row['evidence']}")
                found.append(
                    Item(
                        benchmark=source.label(), number=len(found) + 1,
                        question=row["question"], domain=row["domain"],
                    )
                )  # fmt: skip
    if not found:
        raise ValueError(f"benchmark {source.label()}: no items in {source.path or source.hub}")
    return found


def _local(folder: str, name: str) -> str:
    for ending in (".jsonl", ".json", ".parquet", ".csv"):
        path = f"{folder.rstrip('/')}/{name}{ending}"
        if "://" in folder or Path(path).is_file():
            return path
    return ""
