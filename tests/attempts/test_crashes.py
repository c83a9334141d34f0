"""The attempt log survives a crash of the machine: no attempt lost or twice, no broken part."""

from pathlib import Path

import pytest

from limo_ray.attempts import compaction
from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.attempts.partials import Partial, Partials
from limo_ray.attempts.parts import read_table
from limo_ray.core.records import problem_id
from limo_ray.storage.store import Store
from tests.attempts.test_log import JUDGE, attempt, write
from tests.storage.crashes import Recorder

PRINT, PROBLEM = "a" * 16, problem_id("p")


def workload(store: Store, recorder: Recorder) -> None:
    """A writer that merges its parts, twice over; killed writers; a job that compacts the log."""
    log = AttemptLog(store, PRINT)
    partials = Partials(store, PRINT)
    partials.save([Partial(problem_id=PROBLEM, index=0, tokens=[1], completion="so far")])
    recorder.promise("partial")
    writer = LogWriter(log, merge=2)
    for index in range(5):
        writer.append(attempt("p", index))
        writer.flush()
        recorder.promise(index)
    for index in range(5, 8):
        write(log, attempt("p", index))
        recorder.promise(index)
    partials.delete_used(log.read_index())
    assert log.compact() > 2


def check(store: Store, promises: list[object]) -> None:
    log = AttemptLog(store, PRINT)
    promised = {index for index in promises if isinstance(index, int)}
    for again in range(2):
        index = log.read_index()
        found = index.known(PROBLEM, JUDGE).verdicts.keys()
        assert promised <= found, f"{promised - found} were lost"
        assert len(index) == len(found), "a row is there twice"
        assert {each.index for each in log.attempts([PROBLEM])} == found
        assert read_table(store, log.folder, ["index"]).num_rows == len(found)
        assert not store.exists(f"{log.folder}/broken"), "a part is broken"
        partials = Partials(store, PRINT)
        partials.load()
        if "partial" in promises:
            assert 0 in found or partials.find(PROBLEM, 0), "the partial completion was lost"
        if not again:
            log.compact()  # as the next job does


def survives(tmp_path: Path, lost: tuple[str, ...] = ()) -> int:
    (tmp_path / "store").mkdir()
    with Recorder(tmp_path / "store", lost) as recorder:
        workload(Store(str(tmp_path / "store")), recorder)
    crashes = list(recorder.crashes())
    for crash in crashes:
        crash.restore(tmp_path / "after")
        check(Store(str(tmp_path / "after")), crash.promises)
    return len(crashes)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FEW", 2)


def test_a_crash_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    assert survives(tmp_path) > 100


@pytest.mark.parametrize("lost", ["file", "folder"])
def test_without_a_sync_attempts_are_lost(tmp_path: Path, lost: str) -> None:
    """The model finds what a log loses that does not sync its parts, or their folder."""
    with pytest.raises(AssertionError, match=r"were lost|is broken|was lost"):
        survives(tmp_path, (lost,))


def test_parts_are_deleted_only_once_their_replacement_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a compaction loses that deletes first."""
    write_tables = Store.write_tables

    def delete_first(store: Store, name: str, *rest: object) -> int:
        tables = list(rest[1])  # type: ignore[call-overload]
        folder = name.rpartition("/")[0]
        for part in store.files(folder):
            store.delete(f"{folder}/{part}")
        return write_tables(store, name, rest[0], iter(tables), rest[2])  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write_tables", delete_first)
    with pytest.raises(AssertionError, match="were lost"):
        survives(tmp_path)
