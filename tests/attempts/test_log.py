"""The attempt log: whole parts or none, nothing lost, nothing sampled twice."""

import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.storage.store import Store

JUDGE, OTHER = "0" * 15 + "1", "f" * 16


def attempt(name: str, index: int, verdict: Verdict = Verdict.WRONG, judge: str = JUDGE) -> Attempt:
    return Attempt(
        problem_id=problem_id(name), index=index, completion=f"{name} {index}\u2028\x00",
        finish_reason="stop", prompt_tokens=3, completion_tokens=5, verdict=verdict,
        extracted=None, judge=judge,
    )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> AttemptLog:
    return AttemptLog(Store(str(tmp_path)), "a" * 16)


def write(log: AttemptLog, *attempts: Attempt) -> None:
    writer = LogWriter(log)
    for each in attempts:
        writer.append(each)
    writer.flush()


def test_what_was_appended_is_indexed(log: AttemptLog) -> None:
    write(log, attempt("p", 2, Verdict.CORRECT), attempt("p", 0), attempt("q", 1, Verdict.TIMEOUT))
    index = log.read_index()
    assert len(index) == 3
    known = index.known(problem_id("p"), JUDGE)
    assert known.verdicts == {0: Verdict.WRONG, 2: Verdict.CORRECT}
    assert index.known(problem_id("q"), JUDGE).verdicts == {1: Verdict.TIMEOUT}
    assert index.known(problem_id("r"), JUDGE).verdicts == {}


def test_an_empty_log_has_an_empty_index(log: AttemptLog) -> None:
    assert log.read_index().known(problem_id("p"), JUDGE).verdicts == {}
    assert log.attempts([problem_id("p")]) == []


def test_of_an_attempt_logged_twice_the_first_counts(log: AttemptLog) -> None:
    write(log, attempt("p", 0, Verdict.CORRECT))
    second = LogWriter(log)
    second.name = "9" + second.name  # parts are read in the order of their names: time
    second.append(attempt("p", 0, Verdict.WRONG))
    second.flush()
    assert log.read_index().known(problem_id("p"), JUDGE).verdicts == {0: Verdict.CORRECT}
    assert [a.verdict for a in log.attempts([problem_id("p")])] == [Verdict.CORRECT]


def test_a_verdict_under_another_gold_answer_is_stale(log: AttemptLog) -> None:
    write(log, attempt("p", 0, judge=OTHER), attempt("p", 1))
    known = log.read_index().known(problem_id("p"), JUDGE)
    assert known.verdicts == {1: Verdict.WRONG}
    assert known.stale == {0}


def test_a_half_written_part_is_set_aside_with_a_warning(
    log: AttemptLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(log, attempt("p", 0))
    write(log, attempt("p", 1))
    folder = tmp_path / log.folder
    whole = sorted(folder.glob("*.parquet"))[0]
    (folder / "part-0000000000-x-000000.parquet").write_bytes(whole.read_bytes()[:-40])
    (folder / "part-0000000001-x-000000.parquet").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert len(log.read_index()) == 2
    assert "part-0000000000-x-000000.parquet is not readable" in caplog.text
    assert len(list((folder / "broken").iterdir())) == 2
    assert len(log.read_index()) == 2


def test_small_parts_are_merged_on_the_way(log: AttemptLog, tmp_path: Path) -> None:
    writer = LogWriter(log, merge=4)
    for index in range(70):
        writer.append(attempt("p", index))
        writer.flush()
    parts = list((tmp_path / log.folder).glob("*.parquet"))
    assert len(parts) <= 9, "70 flushes in base 4 are 1 + 0 + 1 + 2 parts of four sizes"
    assert sorted(log.read_index().known(problem_id("p"), JUDGE).verdicts) == list(range(70))


def test_a_flush_that_fails_loses_nothing(log: AttemptLog, tmp_path: Path) -> None:
    writer = LogWriter(log)
    writer.append(attempt("p", 0))
    blocker = tmp_path / "attempts"
    blocker.write_text("a file where the folder should be")
    with pytest.raises(OSError):
        writer.flush()
    writer.append(attempt("p", 1))
    blocker.unlink()
    assert writer.flush() == 2
    assert len(log.read_index()) == 2


def test_files_appear_whole(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_text("a/b.txt", "one")
    store.write_text("a/b.txt", "two")
    assert store.read_text("a/b.txt") == "two"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert store.read_text("a/none.txt") is None


def test_attempts_of_some_problems_come_back_whole(log: AttemptLog) -> None:
    write(log, attempt("p", 0), attempt("q", 0), attempt("p", 1))
    write(log, attempt("p", 0, Verdict.CORRECT, judge=OTHER))
    found = log.attempts([problem_id("p")])
    assert [(a.index, a.judge, a.completion) for a in found] == [
        (0, JUDGE, "p 0\u2028\x00"), (1, JUDGE, "p 1\u2028\x00"), (0, OTHER, "p 0\u2028\x00"),
    ]  # fmt: skip


def test_a_flipped_bit_is_found(log: AttemptLog, tmp_path: Path) -> None:
    """Parquet without checksums would read it as another text."""
    write(log, *(attempt("p", index) for index in range(64)))
    (part,) = (tmp_path / log.folder).glob("*.parquet")
    column = pq.read_metadata(part).row_group(0).column(2)
    assert column.path_in_schema == "completion"
    content = bytearray(part.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 9] ^= 4
    part.write_bytes(content)
    assert len(log.read_index()) == 64, "the small columns are sound"
    with pytest.raises(OSError, match="set aside"):
        log.attempts([problem_id("p")])
    assert len(log.read_index()) == 0
    assert [path.name for path in (tmp_path / log.folder / "broken").iterdir()] == [part.name]


def test_a_part_that_breaks_after_the_fold_is_not_missed_in_silence(
    log: AttemptLog, tmp_path: Path
) -> None:
    write(log, attempt("p", 0))
    write(log, attempt("p", 1))
    assert len(log.read_index()) == 2
    (one, _) = sorted((tmp_path / log.folder).glob("*.parquet"))
    one.write_bytes(one.read_bytes()[:100])
    with pytest.raises(OSError, match=f"{one.name} is broken and was set aside"):
        log.attempts([problem_id("p")])
    assert [each.index for each in log.attempts([problem_id("p")])] == [1]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(OSError, match="full"), store._whole("folder/file") as stream:
        stream.write(b"half")
        raise OSError("disk full")
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_merge_that_fails_costs_nothing(log: AttemptLog, tmp_path: Path) -> None:
    writer = LogWriter(log, merge=4)
    for index in range(12):
        writer.append(attempt("p", index))
        writer.flush()
        if index == 2:
            sorted((tmp_path / log.folder).glob("*.parquet"))[0].write_bytes(b"broken")
    assert sorted(log.read_index().known(problem_id("p"), JUDGE).verdicts) == list(range(1, 12))
    assert len(log.store.files(log.folder)) < 11, "merging stopped for good"
