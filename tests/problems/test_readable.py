"""A source that cannot be read stops a job, and the message says what to mend."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limo_ray.problems.readable import FIRST_ROWS, RowCounts, check_first_rows, check_source
from limo_ray.problems.sources import SourceConfig, open_sources, rows, work_items

ROWS = [{"problem": f"What is {n} + {n}?", "final_answer": str(2 * n)} for n in range(20)]


def jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv(rows: list[dict]) -> str:
    lines = [f'"{row["problem"]}",{row["final_answer"]}' for row in rows]
    return "\n".join(["problem,final_answer", *lines]) + "\n"


def check(path: Path, min_readable: float = 0.1, **mapping) -> Counter:
    """Both checks on all rows of a file, as a job makes them; returns the drop reasons."""
    fits = {"question": "problem", "answer": "final_answer"}
    opened = open_sources([SourceConfig(path=str(path), **(mapping or fits))])
    check_first_rows(opened)
    found = [row for item in work_items(opened) for row in rows(opened, item)]
    reasons = Counter(row["reason"] for row in found)
    counts = RowCounts(len(found), reasons["not_selected"], reasons["invalid"])
    example = next((row for row in found if row["reason"] == "invalid"), None)
    check_source(opened, 0, counts, example, min_readable)
    return reasons


def refusal(path: Path, **options) -> str:
    with pytest.raises(ValueError) as caught:
        check(path, **options)
    message = str(caught.value)
    assert message.startswith(f"sources[0] ({path.stem}): ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, kind):
    path = tmp_path / f"own.{kind}"
    if kind == "jsonl":
        jsonl(path, ROWS)
    elif kind == "csv":
        path.write_text(csv(ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    message = refusal(path, question="problem", answer="finalanswer")
    first = 2 if kind == "csv" else 1
    assert f"{path}:{first}: answer: no column 'finalanswer'" in message
    assert "there are problem, final_answer, did you mean final_answer?" in message


def test_a_wrong_path_into_nested_values_is_named_as_far_as_it_goes(tmp_path):
    path = jsonl(tmp_path / "own.jsonl", [{"turns": [{"role": "user", "content": "1 + 1?"}]}] * 5)
    message = refusal(path, question="turns[0].contents", answer="turns[0].role")
    assert "there are turns[0].role, turns[0].content, did you mean turns[0].content?" in message


def test_the_first_rows_are_enough_to_stop_a_job(tmp_path, monkeypatch):
    path = jsonl(tmp_path / "own.jsonl", ROWS * 1000)
    read = []
    from limo_ray.problems import sources

    original = sources.pool_row
    monkeypatch.setattr(sources, "pool_row", lambda *a, **k: read.append(1) or original(*a, **k))
    with pytest.raises(ValueError, match="no column 'q'"):
        check_first_rows(open_sources([SourceConfig(path=str(path), question="q", answer="a")]))
    assert len(read) == FIRST_ROWS


def test_a_bad_beginning_does_not_stop_a_source_that_is_sound_later(tmp_path):
    path = jsonl(tmp_path / "own.jsonl", [*[{"question": "old"}] * 50, *ROWS * 20])
    assert check(path) == {"invalid": 50, None: 400}


def test_too_few_readable_rows_stop_a_job_and_the_share_is_a_setting(tmp_path):
    path = jsonl(tmp_path / "own.jsonl", [*ROWS[:1], *[{"problem": "?", "final_answer": ""}] * 19])
    message = refusal(path)
    assert "1 of 20 rows can be read" in message and f"{path}:2: answer: empty" in message
    assert "min_readable (0.1)" in message
    assert check(path, min_readable=0.05) == {"invalid": 19, None: 1}
    jsonl(path, [{"problem": "?", "final_answer": ""}] * 20)
    assert "0 of 20 rows can be read" in refusal(path, min_readable=0)


def test_conditions_that_no_row_meets_are_named(tmp_path):
    path = jsonl(tmp_path / "own.jsonl", ROWS)
    where = ["final_answer > 100"]
    message = refusal(path, question="problem", answer="final_answer", where=where)
    assert message.endswith("none of its 20 rows meets `where` (final_answer > 100)")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("own.jsonl", b"", "no rows in {path}: is the file empty?"),
        ("own.csv", b"", "{path}: file: no header line"),
        (
            "own.csv",
            csv(ROWS).replace("What", "Qu\xe9").encode("latin-1"),
            "save the file as UTF-8",
        ),
        ("own.csv", csv(ROWS).encode("utf-16"), "save the file as UTF-8"),
        ("own.jsonl", json.dumps(ROWS[0]).encode("utf-16"), "save the file as UTF-8"),
        ("own.csv", csv(ROWS).replace(",", ";").encode(), "fields must be divided by commas"),
        ("own.parquet", csv(ROWS).encode(), "set format if it is another kind of file"),
        ("own.jsonl", csv(ROWS).encode(), "each line must be one JSON object"),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path)
    assert words.format(path=path) in message and str(path) in message


def test_what_programs_put_into_files_does_not_stop_a_job(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes(b"\xef\xbb\xbf" + csv(ROWS).replace("\n", "\r\n").encode())
    assert check(path) == {None: 20}
    path = jsonl(tmp_path / "units.jsonl", [row | {"final_answer": "12 km"} for row in ROWS])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert check(path) == {None: 20}
