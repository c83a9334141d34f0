"""A pool of 1,000 rows in five files, 100 of them broken in some 30 ways, for tests of whole runs.

messy = write(folder, seed=0); read(messy.sources) must give 1,000 rows, of which exactly the 100 in
`messy.broken` are invalid, each with the field and the words given there.
"""

import csv
import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.problems.sources import SourceConfig

ROWS, BROKEN = 1_000, 100


@dataclass(frozen=True, kw_only=True)
class MessyPool:
    """The sources, and what is wrong: (file name, line) -> (field, words of the error)."""

    sources: list[SourceConfig]
    broken: dict[tuple[str, int], tuple[str, str]]


def write(folder: Path, seed: int = 0) -> MessyPool:
    """Writes the files into the folder. The same seed gives the same rows on the same lines."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    broken: dict[tuple[str, int], tuple[str, str]] = {}
    for make in (_plain, _boxed, _hashes, _table, _parquet):
        broken |= make(folder, rng)
    assert len(broken) == BROKEN
    columns = {"question": "question", "answer": "answer"}
    sources = [
        SourceConfig(path=str(folder / "plain.jsonl"), **columns),
        SourceConfig(
            path=str(folder / "boxed.jsonl.gz"),
            question="problem",
            solution="solution",
            answer_from="boxed",
        ),
        SourceConfig(path=str(folder / "hashes.jsonl"), mapping="gsm8k"),
        SourceConfig(path=str(folder / "table.csv"), **columns),
        SourceConfig(path=str(folder / "rows.parquet"), **columns),
    ]
    return MessyPool(sources=sources, broken=broken)


def sum_of(rng: random.Random, name: str, i: int) -> tuple[str, int]:
    """A question that no other (name, i) has, and its answer."""
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    text = f"In {name} {i}, Ann has {a} apples\u2028and Bob has {b}. How many have they together?"
    return text, a + b


def _json(**row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


# Broken lines by name: bytes made of a good question, and what must be said of them.
PLAIN = {
    "cut off": (lambda q: _json(question=q, answer=1)[:-9], "line", "not JSON"),
    "not an object": (lambda q: json.dumps([q, 1]).encode(), "line", "not an object"),
    "no column": (lambda q: _json(question=q, reply=1), "answer", "no column 'answer'"),
    "empty question": (lambda q: _json(question=" \n", answer=1), "question", "empty"),
    "null answer": (lambda q: _json(question=q, answer=None), "answer", "null"),
    "empty answer": (lambda q: _json(question=q, answer=""), "answer", "empty"),
    "object": (lambda q: _json(question={"text": q}, answer=1), "question", "an object"),
    "list": (lambda q: _json(question=q, answer=[1, 2]), "answer", "a list"),
    "boolean": (lambda q: _json(question=q, answer=True), "answer", "a boolean"),
    "NaN": (lambda q: _json(question=q, answer=float("nan")), "answer", "not a finite number"),
    "infinity": (
        lambda q: _json(question=q, answer=float("-inf")),
        "answer",
        "not a finite number",
    ),
    "overflow": (lambda q: _json(question=q, answer=0)[:-2] + b"1e999}", "answer", "not a finite"),
    "not UTF-8": (lambda q: _json(question=q, answer=1).replace(b"Ann", b"\xff"), "line", "0xff"),
    "NUL": (lambda q: _json(question=q + "\0", answer=1), "question", "a NUL character"),
    "surrogate": (lambda q: b'{"question": "\\ud83d?", "answer": 1}', "question", "surrogate"),
    "deep": (lambda q: b'{"question": ' + b"[" * 100_000, "line", "nested too deeply"),
    "digits": (lambda q: b'{"question": "?", "answer": 1' + b"0" * 5_000 + b"}", "line", "limit"),
    "book": (lambda q: _json(question=q * 20_000, answer=1), "question", "longer than 1,000,000"),
    "giant": (lambda q: _json(question=q * 120_000, answer=1), "line", "longer than 8,388,608"),
}
BOXED = {
    "no box": ("The sum is 5.", "no \\boxed"),
    "open box": ("The sum is \\boxed{5.", "not closed"),
    "empty box": ("The sum is \\boxed{ }.", "empty"),
}


def _broken_rows(rng: random.Random, rows: int, broken: int) -> set[int]:
    return set(rng.sample(range(rows), broken))


def _plain(folder: Path, rng: random.Random) -> dict[tuple[str, int], tuple[str, str]]:
    file, found = str(folder / "plain.jsonl"), {}
    broken_rows = _broken_rows(rng, 400, 40)
    # Every kind twice, the giant one once: it is 9 MB.
    kinds = [kind for kind in PLAIN if kind != "giant"] * 3
    order = ["giant", *kinds[: len(broken_rows) - 1]]
    lines = [b"\xef\xbb\xbf"]  # a byte order mark and nothing else
    for i in range(400):
        if i % 50 == 7:
            lines.append(b" \t")  # blank lines are no rows, but lines
        question, answer = sum_of(rng, "plain", i)
        if i in broken_rows:
            make, field, words = PLAIN[order.pop(0)]
            lines.append(make(question))
            found[file, len(lines)] = (field, words)
        else:
            lines.append(_json(question=question, answer=float(answer)) + b"\r" * (i % 2))
    Path(file).write_bytes(b"\n".join(lines))  # and no line break at the end
    return found


def _boxed(folder: Path, rng: random.Random) -> dict[tuple[str, int], tuple[str, str]]:
    file, found = str(folder / "boxed.jsonl.gz"), {}
    broken_rows, kinds = _broken_rows(rng, 200, 20), list(BOXED.values()) * 7
    with gzip.open(file, "wb") as out:
        for i in range(200):
            question, answer = sum_of(rng, "boxed", i)
            counting = "Then they count. " * 6
            solution = f"A guess: \\boxed{{1}}. {counting}It is \\boxed{{{answer}}}."
            if i in broken_rows:
                solution, words = kinds.pop()
                found[file, i + 1] = ("solution", words)
            out.write(_json(problem=question, solution=solution) + b"\n")
    return found


def _hashes(folder: Path, rng: random.Random) -> dict[tuple[str, int], tuple[str, str]]:
    file, found = str(folder / "hashes.jsonl"), {}
    broken_rows = _broken_rows(rng, 100, 10)
    with open(file, "wb") as out:
        for i in range(100):
            question, answer = sum_of(rng, "hashes", i)
            solution = f"They have #{answer}.\n#### {answer}"
            if i in broken_rows:
                solution = f"They have {answer}." if i % 2 else "They have.\n#### "
                words = "no ####" if i % 2 else "nothing after ####"
                found[file, i + 1] = ("solution", words)
            out.write(_json(question=question, answer=solution) + b"\n")
    return found


def _table(folder: Path, rng: random.Random) -> dict[tuple[str, int], tuple[str, str]]:
    file, found = str(folder / "table.csv"), {}
    broken_rows = _broken_rows(rng, 150, 15)
    kinds = [
        (lambda q: b'"' + q + b'"\n', "line", "1 fields, 3 in the header"),
        (lambda q: b'1,"' + q + b'",3,4\n', "line", "4 fields"),
        (lambda q: b'1,"' + q + b'" Ann,3\n', "line", "not CSV"),
        (lambda q: b"1,Zo\xe9,3\n", "question", "not UTF-8: byte 0xe9"),
        (lambda q: b'1,"' + q + b'", \n', "answer", "empty"),
    ] * 3
    line = 2
    with open(file, "wb") as out:
        out.write(b"id,question,answer\n")
        for i in range(150):
            question, answer = sum_of(rng, "table", i)
            raw = question.replace("Bob", 'Bob,\n"the" brother,').replace('"', '""').encode()
            if i in broken_rows:
                make, field, words = kinds.pop()
                written = make(question.encode())
                found[file, line] = (field, words)
            else:
                written = f"{i},".encode() + b'"' + raw + b'"' + f",{answer}\r\n".encode()
            out.write(written)
            line += written.count(b"\n")
    with open(file, newline="", encoding="utf-8", errors="replace") as check:
        assert sum(1 for _ in csv.reader(check)) == 151
    return found


def _parquet(folder: Path, rng: random.Random) -> dict[tuple[str, int], tuple[str, str]]:
    file, found = str(folder / "rows.parquet"), {}
    broken_rows = _broken_rows(rng, 150, 15)
    kinds = [
        ("question", b"", "empty"),
        ("question", None, "null"),
        ("question", b"Zo\xe9 has two.", "not UTF-8: byte 0xe9"),
        ("answer", None, "null"),
        ("answer", float("nan"), "not a finite number"),
    ] * 3
    questions: list[bytes | None] = []
    answers: list[float | None] = []
    for i in range(150):
        question, answer = sum_of(rng, "rows", i)
        questions.append(question.encode())
        answers.append(answer)
        if i in broken_rows:
            field, value, words = kinds.pop()
            (questions if field == "question" else answers)[-1] = value  # type: ignore[call-overload]
            found[file, i + 1] = ("line" if "UTF-8" in words else field, words)
    binary = pa.array(questions, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())  # unchecked
    table = pa.table({"question": text, "answer": pa.array(answers, pa.float32())})
    pq.write_table(table, file, row_group_size=60)
    return found
