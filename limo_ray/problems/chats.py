"""Rows of a file or hub data set become chats: ours, messages, ShareGPT, question and solution.

Every row that cannot be an example is named with its file, its row, the field and what is wrong.
Pure but for reading the files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from limo_ray.core.checks import check_at_least, check_one_of
from limo_ray.core.prompts import SYSTEM, example_messages
from limo_ray.core.text import did_you_mean
from limo_ray.problems import discovery, readers
from limo_ray.problems.columns import InvalidRow, text_of
from limo_ray.storage.store import Store

Messages = list[dict[str, str]]
SPAN_BYTES = 64 * 2**20  # of JSONL read at once
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
            "system": "system"}  # fmt: skip
TOO_LONG = ("drop", "cut", "stop")
BAD_ROWS = ("stop", "drop")


@dataclass(kw_only=True, slots=True)
class RowsConfig:
    """What the rows of `data` mean, and what becomes of those that do not fit."""

    format: str = "auto"
    """messages, sharegpt, question_solution, or auto (from the columns of the first row)."""
    question: str = "question"
    """question_solution: column of the question, or a template (`{a} and {b[0]}`)."""
    solution: str = "solution"
    """question_solution: column of the chain that is learned, or a template."""
    split: str = "train"
    """Of a hub data set."""
    revision: str = ""
    """Branch, tag or commit of a hub data set; the newest when empty."""
    system: str = SYSTEM
    """System turn of rows that are a question and a solution, or chats without one; empty: none."""
    max_tokens: int = 16384
    """The longest example, in tokens."""
    too_long: str = "drop"
    """drop, cut (the answer loses its end, and its end-of-turn token) or stop."""
    bad: str = "stop"
    """What a row that cannot be an example does: stop (all are named) or drop (all are counted)."""
    turns: str = "all"
    """Which assistant turns are learned: all or last."""
    template: str = ""
    """File with the chat template (Jinja) to use instead of the model's own."""
    held_out: float = 0.0
    """Share of examples (below 1) or their number, chosen by seed, for the held-out loss."""
    limit: int = 0
    """Only the first so many rows; 0 takes all."""

    def check(self) -> None:
        check_one_of("format", self.format, ("auto", "messages", "sharegpt", "question_solution"))
        check_one_of("too_long", self.too_long, TOO_LONG)
        check_one_of("bad", self.bad, BAD_ROWS)
        check_one_of("turns", self.turns, ("all", "last"))
        check_at_least("max_tokens", self.max_tokens, 8)
        check_at_least("held_out", self.held_out, 0)
        check_at_least("limit", self.limit, 0)


@dataclass(kw_only=True, slots=True)
class Chat:
    """One row that can be an example: where it is, and its turns, an assistant's last."""

    file: str
    row: int
    messages: Messages


@dataclass(kw_only=True, slots=True)
class Bad:
    """One row that cannot: `message` begins with the field."""

    file: str
    row: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.message}"


def files(data: str, rows: RowsConfig) -> list[readers.File]:
    """The files of a path (a run's folder stands for its examples) or of a hub data set.

    Raises ValueError, beginning with "data: ", when there are none.
    """
    try:
        if Path(data).expanduser().is_dir() and (Path(data) / "examples.parquet").is_file():
            return discovery.on_disk(f"{data}/examples.parquet")
        if "://" in data and Store(data).exists("examples.parquet"):
            return discovery.on_disk(Store(data).within("examples.parquet").uri)
        if is_on_hub(data):
            return discovery.on_hub(data, "", rows.split, rows.revision)
        return discovery.on_disk(data)
    except ValueError as error:
        raise ValueError(f"data: {str(error).partition(': ')[2]}") from None


def is_on_hub(data: str) -> bool:
    """Whether data is named by a repository of the hub (owner/name), and not by a path."""
    path = "://" in data or "*" in data or data.startswith((".", "/", "~"))
    return data.count("/") == 1 and not path and not Path(data).exists()


def chats(data: str, rows: RowsConfig) -> Iterator[Chat | Bad]:
    """All rows in their order; ValueError for data that is not there or of no known form."""
    seen = 0
    form = "" if rows.format == "auto" else rows.format
    for file in files(data, rows):
        spans = readers.spans(file, SPAN_BYTES)
        for result in chain.from_iterable(readers.read(file, None, span) for span in spans):
            if rows.limit and seen >= rows.limit:
                return
            seen += 1
            try:
                if isinstance(result, readers.Unreadable):
                    raise result.error
                record = result.value
                if not isinstance(record, dict):
                    raise InvalidRow("row", f"is {type(record).__name__}, not an object")
                form = form or _form(record, rows, file.name)
                messages = _FORMS[form](record, rows)
                _check(messages)
            except InvalidRow as error:
                yield Bad(file=file.name, row=result.line, message=str(error))
            else:
                yield Chat(file=file.name, row=result.line, messages=messages)


def _form(record: dict[str, Any], rows: RowsConfig, file: str) -> str:
    if "messages" in record:
        return "messages"
    if "conversations" in record:
        return "sharegpt"
    if rows.question in record or "{" in rows.question:
        return "question_solution"
    raise ValueError(
        f"rows.format: not clear from the columns of {file} ({', '.join(record)}): say "
        "messages, sharegpt or question_solution (with rows.question and rows.solution)"
    )


def _messages(record: dict[str, Any], rows: RowsConfig) -> Messages:
    turns = _turns(record, "messages", "role", "content")
    return _with_system(turns, rows)


def _sharegpt(record: dict[str, Any], rows: RowsConfig) -> Messages:
    turns = _turns(record, "conversations", "from", "value")
    for index, turn in enumerate(turns):
        if turn["role"] not in SHAREGPT:
            known = ", ".join(SHAREGPT)
            name = f"conversations[{index}].from"
            raise InvalidRow(name, f"{turn['role']!r} is none of {known}", turn["role"])
        turn["role"] = SHAREGPT[turn["role"]]
    if isinstance(record.get("system"), str) and record["system"]:
        turns = [{"role": "system", "content": record["system"]}, *turns]
    return _with_system(turns, rows)


def _question_solution(record: dict[str, Any], rows: RowsConfig) -> Messages:
    for name, template in (("question", rows.question), ("solution", rows.solution)):
        if "{" not in template and template not in record:
            near = did_you_mean(template, record)
            raise InvalidRow(name, f"no column {template!r} (there are {', '.join(record)}{near})")
    question = text_of(record, rows.question, "question")
    solution = text_of(record, rows.solution, "solution")
    for name, text in (("question", question), ("solution", solution)):
        if not text.strip():
            raise InvalidRow(name, "empty", text)
    return example_messages(question, solution, rows.system)


_FORMS = {"messages": _messages, "sharegpt": _sharegpt, "question_solution": _question_solution}


def _turns(record: dict[str, Any], column: str, role: str, content: str) -> Messages:
    """The turns of a column as plain role and content; InvalidRow names turn and field."""
    turns = record.get(column)
    if turns is None:
        raise InvalidRow(column, "missing")
    if not isinstance(turns, list) or not turns:
        raise InvalidRow(column, "must be a list of turns, not empty", turns)
    found = []
    for index, turn in enumerate(turns):
        for name in (role, content):
            value = turn.get(name) if isinstance(turn, dict) else None
            if value is None:
                raise InvalidRow(f"{column}[{index}].{name}", "missing")
            if not isinstance(value, str):
                where = f"{column}[{index}].{name}"
                raise InvalidRow(where, f"is {type(value).__name__}, not text", value)
        found.append({"role": turn[role], "content": turn[content]})
    return found


def _with_system(turns: Messages, rows: RowsConfig) -> Messages:
    if rows.system and turns[0]["role"] != "system":
        return [{"role": "system", "content": rows.system}, *turns]
    return turns


def _check(messages: Messages) -> None:
    """InvalidRow unless the turns are [system,] user, assistant, user, assistant, ... in words."""
    start = 1 if messages[0]["role"] == "system" else 0
    for index, turn in enumerate(messages):
        expected = "system" if index < start else ("user", "assistant")[(index - start) % 2]
        if turn["role"] != expected:
            name = f"messages[{index}].role"
            raise InvalidRow(name, f"{turn['role']!r} where {expected!r} must be", turn["role"])
        if not turn["content"].strip() and expected != "system":
            raise InvalidRow(f"messages[{index}].content", "empty", turn["content"])
    if messages[-1]["role"] != "assistant":
        raise InvalidRow("messages", "the last turn must be the assistant's, nothing to learn")
