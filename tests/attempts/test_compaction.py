"""Small parts become large ones: no row lost or doubled, whoever merges, whenever it is killed."""

import itertools
import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limo_ray.attempts import compaction as merging
from limo_ray.attempts.compaction import compact, groups, merge
from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import Verdict, problem_id
from limo_ray.storage.store import Store
from tests.attempts.test_log import JUDGE, attempt, write


@pytest.fixture
def log(tmp_path: Path) -> AttemptLog:
    return AttemptLog(Store(str(tmp_path)), "a" * 16)


def logged(log: AttemptLog, name: str = "p") -> list[int]:
    table = read_table(log.store, log.folder, ["problem_id", "index"])
    return [row["index"] for row in table.to_pylist() if row["problem_id"] == problem_id(name)]


def folder(log: AttemptLog) -> Store:
    return log.store.within(log.folder)


def test_parts_of_killed_writers_are_merged_in_their_order(log: AttemptLog) -> None:
    for index in range(40):
        write(log, attempt("p", index))
    before = log.read_index()
    assert log.compact() == 39
    assert len(folder(log).files("")) == 1
    assert logged(log) == list(range(40))
    assert log.compact() == 0
    after = log.read_index()
    assert all(
        (one == other).all() for one, other in zip(before.arrays(), after.arrays(), strict=True)
    )
    assert log.attempts([problem_id("p")])[7].completion == "p 7\u2028\x00"


def test_runs_of_small_neighbours_are_merged_up_to_a_size() -> None:
    few, large, merged = merging.FEW, merging.LARGE, merging.MERGED
    small = [(f"{n:03d}", 10) for n in range(few + 1)]
    assert groups(small) == [[name for name, _ in small]]
    assert groups(small[:few]) == []
    assert groups([*small[:9], ("008x", large), *small[9:]]) == [], "their order would change"
    quarter = [(f"{n:03d}", large // 4) for n in range(2 * merged // (large // 4))]
    assert [len(group) for group in groups(quarter)] == [len(quarter) // 2] * 2


def test_a_merge_that_was_cut_off_leaves_no_row_twice(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(20):
        write(log, attempt("p", index))
    monkeypatch.setattr(Store, "delete", lambda self, name: None)  # killed before it deletes
    assert log.compact() == 19
    monkeypatch.undo()
    assert len(folder(log).files("")) == 21
    assert logged(log) == list(range(20)) and len(log.read_index()) == 20
    assert len(log.attempts([problem_id("p")])) == 20
    for index in range(20, 40):
        write(log, attempt("p", index))
    log.compact()
    assert len(folder(log).files("")) == 1
    assert logged(log) == list(range(40))


def test_a_writers_merge_of_merged_parts_knows_what_was_not_deleted(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LogWriter(log, merge=4)
    delete = Store.delete

    def first_stay(store: Store, name: str) -> None:
        if not name.endswith(("-000000.parquet", "-000001.parquet")):
            delete(store, name)

    monkeypatch.setattr(Store, "delete", first_stay)
    for index in range(16):
        writer.append(attempt("p", index))
        writer.flush()
    assert len(folder(log).files("")) == 3
    assert logged(log) == list(range(16))


def test_a_live_writer_passes_by_parts_that_a_job_has_merged(log: AttemptLog) -> None:
    writer = LogWriter(log, merge=24)
    for index in range(20):
        writer.append(attempt("p", index))
        writer.flush()
    assert log.compact() == 19
    for index in range(20, 30):
        writer.append(attempt("p", index))
        writer.flush()
    assert sorted(logged(log)) == list(range(30))


def test_two_jobs_that_merge_at_once_lose_nothing(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(20):
        write(log, attempt("p", index))
    rows = merging._row_groups

    def meanwhile(*args):
        monkeypatch.setattr(merging, "_row_groups", rows)
        assert compact(log.store, log.folder) == 19
        yield from rows(*args)

    monkeypatch.setattr(merging, "_row_groups", meanwhile)
    assert compact(log.store, log.folder) == 0, "the other one was faster"
    assert logged(log) == list(range(20))


def test_a_part_that_cannot_be_merged_stays(
    log: AttemptLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(20):
        write(log, attempt("p", index))
    bad = sorted((tmp_path / log.folder).glob("*.parquet"))[3]
    bad.write_bytes(bad.read_bytes().replace(b"p 3\xe2\x80\xa8", b"????????")[:-40])
    with caplog.at_level(logging.WARNING):
        log.compact()
    assert "not readable" in caplog.text
    assert logged(log) == [n for n in range(20) if n != 3]


def test_a_merge_without_any_part_left_writes_nothing(log: AttemptLog) -> None:
    assert merge(log.store, log.folder, ["part-gone.parquet"], "part-new.parquet") == 0
    assert folder(log).files("") == []


def test_a_merge_that_fails_costs_no_attempt_and_logs_none_twice(
    log: AttemptLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = LogWriter(log, merge=3)
    failing = itertools.chain([True, False], itertools.repeat(False))
    whole = merging.merge

    def sometimes(*args, **named):
        if next(failing):
            raise OSError("AWS Error SLOW_DOWN")
        return whole(*args, **named)

    monkeypatch.setattr("limo_ray.attempts.log.merge", sometimes)
    with caplog.at_level(logging.WARNING):
        for index in range(4):
            writer.append(attempt("p", index))
            assert writer.flush() == 1
    assert "compaction of the attempt log failed (AWS Error SLOW_DOWN)" in caplog.text
    assert logged(log) == [0, 1, 2, 3] and len(folder(log).files("")) == 1


def test_texts_are_merged_in_row_groups(log: AttemptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "GROUP", 1000)
    for index in range(20):
        write(log, attempt("p", index))
    log.compact()
    (name,) = folder(log).files("")
    meta = pq.read_metadata(folder(log).path(name))
    assert 2 <= meta.num_row_groups < 20 and meta.num_rows == 20


def test_what_was_logged_since_is_added_to_a_known_state(log: AttemptLog) -> None:
    write(log, attempt("p", 0, Verdict.CORRECT), attempt("q", 0))
    known = log.read_index()
    assert log.read_index(skip=known.parts).arrays()[0].size == 0, "nothing is read again"
    write(log, attempt("p", 1), attempt("o", 0, Verdict.TIMEOUT))
    later = known.with_rows_of(log.read_index(skip=known.parts))
    assert len(later) == 4
    assert later.known(problem_id("p"), JUDGE).verdicts == {0: Verdict.CORRECT, 1: Verdict.WRONG}
    assert later.known(problem_id("o"), JUDGE).verdicts == {0: Verdict.TIMEOUT}
    for index in range(2, 20):
        write(log, attempt("p", index))
    everything = later.with_rows_of(log.read_index(skip=later.parts))
    log.compact()
    assert len(everything) == 22 and not len(log.read_index(skip=everything.parts)), (
        "merged, but nothing new"
    )
