"""Can a source be read? A mapping that does not fit its rows stops a job, and says what would fit.

check_first_rows(opened)                            at once, on the first rows of each source
check_source(opened, index, counts, example, 0.1)   on what reading all of its rows gave
"""

import json
from itertools import chain, islice
from typing import Any, NamedTuple

from limo_ray.core.text import did_you_mean
from limo_ray.problems import readers
from limo_ray.problems.columns import NO_COLUMN, known_paths
from limo_ray.problems.sources import SPAN_BYTES, Source, rows, work_items

FIRST_ROWS = 100
# What to do about an error of a reader or a mapping, by what the error says.
HINTS = {
    "not UTF-8": "save the file as UTF-8",
    "not JSON": "each line must be one JSON object; for another kind of file set format",
    "not CSV": "fields must be divided by commas, and quoted where they hold one",
    "Parquet": "write the file again, or set format if it is another kind of file",
    "no \\boxed": "set answer_from to how the answer stands in this column, or take another column",
    "no ####": "set answer_from to how the answer stands in this column, or take another column",
}


class RowCounts(NamedTuple):
    """Rows of a source: all of them, those that a condition of `where` left out, invalid ones."""

    rows: int
    not_selected: int
    invalid: int


def check_first_rows(opened: list[Source]) -> None:
    """Raises ValueError for a source whose first rows all lack the same column.

    A source that cannot be read for another reason passes here: later rows may be sound.
    """
    items = work_items(opened)
    for index, source in enumerate(opened):
        mine = (rows(opened, item) for item in items if item.source == index)
        first = list(islice(chain.from_iterable(mine), FIRST_ROWS))
        reasons = {_reason(row) for row in first}
        if len(reasons) == 1 and NO_COLUMN in reasons.pop():
            raise ValueError(f"sources[{index}] ({source.name}): {explain(source, first[0])}")


def check_source(
    opened: list[Source], index: int, counts: RowCounts, example: dict[str, Any] | None,
    min_readable: float,
) -> None:  # fmt: skip
    """Raises ValueError for a source of which too few rows can be read.

    Args:
        example: an invalid row, with `file`, `line` and `evidence`; None where there is none.
        min_readable: least share of the rows that must be readable; one row must be, always.
    """
    source = opened[index]
    begin = f"sources[{index}] ({source.name}): "
    selected = counts.rows - counts.not_selected
    readable = selected - counts.invalid
    if not counts.rows:
        files = ", ".join(file.name for file in source.files[:3])
        raise ValueError(f"{begin}no rows in {files or 'it'}: is the file empty?")
    if not selected:
        conditions = ", ".join(source.mapping.where)
        raise ValueError(f"{begin}none of its {counts.rows:,} rows meets `where` ({conditions})")
    if readable and readable >= min_readable * selected:
        return
    why = explain(source, example) if example else "see the ledger"
    advice = f"; fewer than min_readable ({min_readable:g}) stop the job" if readable else ""
    raise ValueError(f"{begin}{readable:,} of {selected:,} rows can be read; {why}{advice}")


def explain(source: Source, row: dict[str, Any]) -> str:
    """Why a row cannot be read: file, line, field; for a missing column those that are there."""
    evidence = json.loads(row["evidence"])
    where = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
    text = f"{where}: {evidence['field']}: {evidence['error']}"
    if not evidence["error"].startswith(NO_COLUMN):
        shown = row["line"] and evidence["value"] != "None"
        value = f" (value {evidence['value'][:80]})" if shown else ""
        hints = (hint for words, hint in HINTS.items() if words in text)
        return text.rstrip(".") + value + "".join(f"; {hint}" for hint in islice(hints, 1))
    path = evidence["error"].removeprefix(NO_COLUMN)[1:-1]
    known = known_paths(_record(source, row["file"], row["line"]), path)
    return f"{text}; there are {', '.join(known) or 'none'}{did_you_mean(path, known)}"


def _reason(row: dict[str, Any]) -> str:
    if row["reason"] != "invalid":
        return ""
    evidence = json.loads(row["evidence"])
    return f"{evidence['field']}: {evidence['error']}"


def _record(source: Source, name: str, line: int) -> Any:
    """A record of a file with all its columns."""
    for file in source.files:
        if file.name == name:
            for span in readers.spans(file, SPAN_BYTES):
                for result in readers.read(file, None, span):
                    if result.line == line and isinstance(result, readers.Record):
                        return result.value
    return {}
