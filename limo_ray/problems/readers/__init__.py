"""Files to records: JSONL, JSON arrays, CSV and Parquet, local or in object stores, damaged or not.

    for span in spans(file, target_bytes):        ranges that can be read in parallel
        for result in read(file, columns, span):  Record or Unreadable, in the order of the file

What is wrong with the data becomes an Unreadable; what is wrong with the way to it (file gone, no
permission, network) is raised, so that a short failure of an object store costs no problem.
"""

from collections.abc import Iterator

from limo_ray.problems.readers import csv, json, jsonl, parquet
from limo_ray.problems.readers.base import (
    FORMATS,
    WHOLE,
    File,
    Record,
    Result,
    Span,
    Unreadable,
    describe,
)

__all__ = ["FORMATS", "WHOLE", "File", "Record", "Span", "Unreadable", "describe", "read", "spans"]


def spans(file: File, target: int) -> Iterator[Span]:
    """Ranges of a file that can be read in parallel, of about `target` bytes.

    Row groups of Parquet; ranges of bytes that end at a line break for JSONL, with the lines
    before each counted on the way. All else is one span.
    """
    if file.format == "parquet":
        return parquet.spans(file)
    # A packed .json file is read line by line or as an array, as it turns out.
    whole = file.packed or file.format == "csv" or (file.format == "json" and json.is_array(file))
    return iter([WHOLE]) if whole else jsonl.spans(file, target)


def read(file: File, columns: set[str] | None, span: Span = WHOLE) -> Iterator[Result]:
    """The records of one span; `columns` are all that a Parquet file need give, None is all."""
    if file.format == "parquet":
        return parquet.read(file, columns, span)
    if file.format == "csv":
        return csv.read(file)
    if file.format == "json" and span.end is None:
        return json.read(file)
    return jsonl.read(file, span)
