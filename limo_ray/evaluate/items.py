"""The items of a benchmark with their gold answers, checked: what a model is asked.

    found = read_items(BenchmarkConfig(name="math500"), folder="benchmarks", seed=0)
    found.problems, found.left_out, found.checksum

An item whose gold answer the verifier does not accept against itself cannot be scored, and one that
repeats another tells nothing new: they are left out and named. Everything else that is wrong (an
item missing, another checksum) is an error.
"""

import json
import random
from dataclasses import dataclass, field, replace
from typing import Any

from limo_ray.core.records import Problem, fingerprint, normalise, problem_id
from limo_ray.core.uris import redact
from limo_ray.evaluate.config import BenchmarkConfig
from limo_ray.problems.answer_check import checked
from limo_ray.problems.benchmarks import (
    BENCHMARKS,
    PAPER,
    PAPER_MODELS,
    first_readable,
    question_columns,
    rows_of,
    source_of,
)
from limo_ray.problems.problem_rows import LETTERS
from limo_ray.problems.sources import SourceConfig, open_sources
from limo_ray.storage.pinned_files import GITHUB
from limo_ray.storage.store import Store

REPEATS = "the same question as item"


@dataclass(kw_only=True, slots=True)
class BenchmarkItems:
    """One benchmark, read: `problems` in its order, each with `number` (from 1) in its metadata."""

    name: str
    origin: str
    """The file, the data set of the hub with its commit, or the generator."""
    problems: list[Problem]
    numbers: list[int]
    """Of each problem, its number among all items of the benchmark, from 1."""
    total: int
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """BenchmarkItems that cannot be scored: number, answer, why."""
    checksum: str = ""
    by: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Its entry in results."""
        paper = dict(zip(PAPER_MODELS, PAPER.get(self.name, ()), strict=False))
        return {
            "name": self.name, "origin": self.origin, "items": len(self.problems),
            "total": self.total, "checksum": self.checksum, "left_out": self.left_out,
            "by": self.by, "paper": paper,
        }  # fmt: skip


def read_items(
    config: BenchmarkConfig, folder: str, seed: int, store: Store | None = None,
    mirror: str = GITHUB,
) -> BenchmarkItems:  # fmt: skip
    """The items of one benchmark; where one of BENCHMARKS is looked for says its `source_of`.

    Raises:
        ValueError: it cannot be had or read, or its items are not those that it must have; the
            message says what to do.
    """
    known = BENCHMARKS.get(config.name)
    source = config.source
    if source is None and known is not None:
        rows, source = _known(config, source_of(config.name, folder, store, mirror))
        by = config.by or list(known.by)
        wanted, tried = config.items or known.items, known.checksum
    else:
        assert source is not None  # BenchmarkConfig.check
        source = replace(source, name=config.name)
        rows = rows_of(_with_columns(source, config.by), seed, unanswered=True)
        by = config.by or (["kind"] if source.gym else [])
        wanted, tried = config.items, ""
    origin = _origin(source)
    if wanted and len(rows) != wanted:
        raise ValueError(
            f"benchmark {config.name}: {len(rows)} items in {origin}, must be {wanted}. Another "
            "version? Pin `revision`, or say how many there are with `items`"
        )
    if known is not None and known.wrong:
        rows = [row if row.get("reason") else _shuffled(row, known.wrong, seed) for row in rows]
    found = BenchmarkItems(
        name=config.name, origin=origin, problems=[], numbers=[], total=len(rows), by=by,
        checksum=checksum(rows),
    )  # fmt: skip
    _check_checksum(found, config.checksum, tried)
    _take(found, rows)
    if not found.problems:
        raise ValueError(
            f"benchmark {config.name}: the verifier accepts none of its gold answers ({origin}): "
            f"{found.left_out[0]['why']}"
        )
    found.notes += _left_out_notes(found)
    return found


def _check_checksum(found: BenchmarkItems, pinned: str, tried: str) -> None:
    """ValueError for other items than the pinned ones, a note for others than the tried ones."""
    if pinned and pinned != found.checksum:
        raise ValueError(
            f"benchmark {found.name}: its items have changed: checksum {found.checksum} of "
            f"{found.origin}, pinned is {pinned}. Pin `revision` to the version that was meant, "
            "or look at what changed and pin the new checksum"
        )
    if tried and tried != found.checksum:
        found.notes.append(
            f"{found.name}: another copy (checksum {found.checksum}) than the one that this "
            f"release was tried with ({tried}); scores on the two may differ"
        )


def _take(found: BenchmarkItems, rows: list[dict[str, Any]]) -> None:
    """Adds each row to the problems, or to those left out."""
    refusals = checked([(row["answer"], row["domain"]) for row in rows])
    numbers: dict[str, int] = {}  # of the first item with each question
    for number, (row, why) in enumerate(zip(rows, refusals, strict=True), 1):
        if row.get("reason"):
            why = json.loads(row["evidence"])["error"]
        elif not why and row["id"] in numbers:
            why = f"{REPEATS} {numbers[row['id']]}"
        if why:
            found.left_out.append({"item": number, "answer": row["answer"][:200], "why": why})
            continue
        numbers[row["id"]] = number
        found.numbers.append(number)
        found.problems.append(
            Problem(
                id=row["id"], question=row["question"], answer=row["answer"], source=found.name,
                domain=row["domain"], metadata=row["metadata"],
            )
        )  # fmt: skip


def _left_out_notes(found: BenchmarkItems) -> list[str]:
    """A note on items left out because of their answers, and one on those that repeat others."""
    notes = []
    repeated = [item for item in found.left_out if item["why"].startswith(REPEATS)]
    refused = [item for item in found.left_out if item not in repeated]
    for left_out, why in (
        (refused, "the verifier does not accept their gold answers"),
        (repeated, "they ask what others ask"),
    ):
        names = ", ".join(str(item["item"]) for item in left_out[:20])
        more = f" and {len(left_out) - 20} more" if len(left_out) > 20 else ""
        if left_out:
            notes.append(
                f"{found.name}: {len(left_out)} of {found.total} items are left out, {why}: "
                f"items {names}{more}"
            )
    return notes


def checksum(rows: list[dict[str, Any]]) -> str:
    """16 hex digits over the items (question, answer, domain), whatever their order."""
    lines = [[normalise(row["question"]), row["answer"], row["domain"]] for row in rows]
    return fingerprint(sorted(lines))


def _known(
    config: BenchmarkConfig, source: SourceConfig
) -> tuple[list[dict[str, Any]], SourceConfig]:
    """Rows of one of BENCHMARKS: from a file, where columns may be named otherwise, or the hub."""
    known = BENCHMARKS[config.name]
    source = replace(source, metadata=[*known.wrong, *(config.by or known.by)])
    answers = [(known.answer, known.answer_from)]
    if source.path:
        answers.append(("answer", ""))
    else:
        source = replace(source, revision=config.revision or source.revision)
    tries = [
        _columns(source, question, *answer)
        for question in question_columns(config.name, source)
        for answer in dict.fromkeys(answers)
    ]
    try:
        return first_readable(tries, unanswered=True)
    except ValueError as error:
        if source.path:
            raise
        raise ValueError(
            f"{error}. Without a way to the hub put {config.name}.jsonl into a folder and say "
            "folder=<it>; a data set with conditions wants them accepted on its page, and a token "
            "(hf auth login)"
        ) from None


def _columns(source: SourceConfig, question: str, answer: str, answer_from: str) -> SourceConfig:
    """A source with its columns; an answer that is taken from text stands in a solution."""
    if answer_from:
        return replace(source, question=question, solution=answer, answer_from=answer_from)
    return replace(source, question=question, answer=answer)


def _with_columns(source: SourceConfig, by: list[str]) -> SourceConfig:
    if source.gym:
        return source  # its metadata is there anyway
    return replace(source, metadata=list(dict.fromkeys([*source.metadata, *by])))


def _origin(source: SourceConfig) -> str:
    if source.gym:
        seed = "the run's seed" if source.seed is None else f"seed {source.seed}"
        kinds = ", ".join(f"{rows} {kind}" for kind, rows in source.gym.items())
        return f"reasoning_gym, {seed}: {kinds}"
    if source.path:
        return redact(source.path)
    uris = [redact(file.uri) for file in open_sources([source])[0].files]
    return f"{source.hub} ({', '.join(uris[:2])})"


def _shuffled(row: dict[str, Any], wrong: tuple[str, ...], seed: int) -> dict[str, Any]:
    """A row whose right and wrong options become letters, in an order of its own for each seed."""
    known = json.loads(row["metadata"])
    right = row["answer"].strip()
    options = [right, *(str(known.pop(column, "")).strip() for column in wrong)]
    if not all(options):
        raise ValueError(f"benchmark {row['source']}: {row['file']}:{row['line']}: an empty option")
    random.Random(f"{seed}:{problem_id(row['question'])}").shuffle(options)
    lettered = dict(zip(LETTERS, options, strict=False))
    question = row["question"].strip() + "\n" + "".join(f"\n{k}) {v}" for k, v in lettered.items())
    letter = LETTERS[options.index(right)]
    return row | {
        "question": question,
        "id": problem_id(question),
        "answer": json.dumps({"answer": letter, "options": lettered}, ensure_ascii=False),
        "domain": "choice",
        "metadata": json.dumps(known, ensure_ascii=False),
    }
