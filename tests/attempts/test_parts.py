"""Parts that are read, gone or broken; and all parts of a folder while it is compacted."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.attempts.parts import Broken, Gone, Part, read, read_all, read_table, visit
from limo_ray.storage.store import Store
from tests.attempts.test_log import attempt, write


@pytest.fixture
def log(tmp_path: Path) -> AttemptLog:
    return AttemptLog(Store(str(tmp_path)), "a" * 16)


def count(part: pq.ParquetFile) -> int:
    return part.metadata.num_rows


@pytest.mark.parametrize("at_once", [False, True])
def test_a_part_is_read_gone_or_broken(log: AttemptLog, at_once: bool) -> None:
    write(log, attempt("p", 0), attempt("p", 1))
    (name,) = log.store.files(log.folder)
    assert read(log.store, f"{log.folder}/{name}", count, at_once=at_once) == Part(2, ())
    assert read(log.store, f"{log.folder}/none", count, at_once=at_once) == Gone()
    log.store.write_text(f"{log.folder}/{name}", "PAR1 but not really PAR1")
    broken = read(log.store, f"{log.folder}/{name}", count, at_once=at_once)
    assert isinstance(broken, Broken) and "Parquet" in broken.reason


def test_content_that_is_no_attempt_is_broken(log: AttemptLog) -> None:
    write(log, attempt("p", 0))
    (name,) = log.store.files(log.folder)

    def refuses(part: pq.ParquetFile) -> None:
        raise ValueError("not all of 32 hex digits\nsecond line")

    part = read(log.store, f"{log.folder}/{name}", refuses)
    assert part == Broken("not all of 32 hex digits")


def test_a_store_that_does_not_answer_is_no_damage(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(log, attempt("p", 0))
    (name,) = log.store.files(log.folder)

    def away(self: Store, name: str) -> bytes:
        raise OSError("AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr(Store, "read_bytes", away)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        read(log.store, f"{log.folder}/{name}", count, at_once=True)


def test_a_read_that_fails_once_is_tried_again(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(log, attempt("p", 0))
    (name,) = log.store.files(log.folder)
    plain, cut = Store.read_bytes, iter([True, False])

    def sometimes(self: Store, name: str) -> bytes:
        return plain(self, name)[: -40 if next(cut) else None]

    monkeypatch.setattr(Store, "read_bytes", sometimes)
    assert read(log.store, f"{log.folder}/{name}", count, at_once=True) == Part(1, ())


def test_parts_that_vanish_are_looked_for_in_what_replaced_them(log: AttemptLog) -> None:
    for index in range(20):
        write(log, attempt("p", index))
    merged = []

    def read_files(files: list[Any]) -> list[Part[int] | Gone | Broken]:
        found = [read(log.store, f"{log.folder}/{files[0].base_name}", count)]
        if not merged:
            merged.append(log.compact())  # all the others vanish while they are read
        rest = [read(log.store, f"{log.folder}/{file.base_name}", count) for file in files[1:]]
        return [*found, *rest]

    found = visit(log.store, log.folder, read_files)
    assert merged == [19]
    (whole,) = [part for part in found.values() if isinstance(part, Part) and part.merged_from]
    assert whole.content == 20 and len(whole.merged_from) == 20


def test_a_part_merged_from_known_ones_is_not_read(log: AttemptLog) -> None:
    for index in range(20):
        write(log, attempt("p", index))
    _, known = read_all(log.store, log.folder, count)
    log.compact()
    contents, seen = read_all(log.store, log.folder, count, known=known)
    assert contents == {} and len(seen) == 1


def test_a_broken_part_is_set_aside_left_or_an_error(log: AttemptLog) -> None:
    write(log, attempt("p", 0))
    bad = f"{log.folder}/part-bad.parquet"
    log.store.write_text(bad, "not parquet")
    contents, seen = read_all(log.store, log.folder, count, on_broken="leave")
    assert list(contents.values()) == [1] and "part-bad.parquet" in seen
    assert log.store.exists(bad)
    with pytest.raises(OSError, match=r"part-bad\.parquet is broken and was set aside"):
        read_all(log.store, log.folder, count, on_broken="raise")
    log.store.write_text(bad, "not parquet")
    contents, seen = read_all(log.store, log.folder, count)
    assert list(contents.values()) == [1] and "part-bad.parquet" not in seen
    assert log.store.files(f"{log.folder}/broken") == ["part-bad.parquet"]


def test_a_folder_of_its_own_is_read_too(log: AttemptLog) -> None:
    write(log, attempt("p", 3), attempt("q", 1))
    folder = log.store.within(log.folder)
    assert read_table(folder, "", ["index"])["index"].to_pylist() == [3, 1]
    assert read_table(folder, "none", ["index"]).num_rows == 0
