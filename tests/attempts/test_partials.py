"""Saved beginnings of completions: found by attempt, the longest first, deleted when logged."""

from pathlib import Path

import pytest

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.attempts.partials import Partial, Partials
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.storage.store import Store

PRINT = "f" * 16
ONE, OTHER = problem_id("one"), problem_id("other")


def partial(name: str, index: int, length: int) -> Partial:
    return Partial(problem_id=name, index=index, tokens=list(range(length)), completion="so far")


def attempt(name: str, index: int) -> Attempt:
    return Attempt(
        problem_id=name, index=index, completion="7", finish_reason="stop", prompt_tokens=1,
        completion_tokens=1, verdict=Verdict.WRONG, extracted="7", judge="a" * 16,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_an_attempt_finds_the_longest_of_what_was_saved(store: Store) -> None:
    Partials(store, PRINT).save([partial(ONE, 0, 5), partial(OTHER, 3, 2)])
    Partials(store, PRINT).save([partial(ONE, 0, 9)])  # it was cut off a second time
    Partials(store, PRINT).save([partial(ONE, 0, 7)])
    found = Partials(store, PRINT)
    assert len(found) == 0
    found.load()
    assert len(found) == 2
    assert found.find(ONE, 0) == partial(ONE, 0, 9)
    assert found.find(OTHER, 3) == partial(OTHER, 3, 2)
    assert found.find(ONE, 3) is None


def test_load_learns_what_is_new(store: Store) -> None:
    found = Partials(store, PRINT)
    found.load()
    Partials(store, PRINT).save([partial(ONE, 1, 4)])
    assert found.find(ONE, 1) is None
    found.load()
    assert found.find(ONE, 1) == partial(ONE, 1, 4)


def test_files_whose_attempts_are_all_logged_are_deleted(store: Store) -> None:
    Partials(store, PRINT).save([partial(ONE, 0, 5)])
    Partials(store, PRINT).save([partial(ONE, 1, 5), partial(OTHER, 0, 5)])
    log = AttemptLog(store, PRINT)
    writer = LogWriter(log)
    writer.append(attempt(ONE, 0))
    writer.append(attempt(ONE, 1))
    writer.flush()
    found = Partials(store, PRINT)
    assert found.delete_used(log.read_index()) == 1
    assert found.find(ONE, 0) is None
    assert found.find(OTHER, 0) == partial(OTHER, 0, 5)
    assert len(store.files(found.folder)) == 1
    assert len(log.read_index()) == 2, "partial completions are no attempts"


def test_a_broken_file_is_no_obstacle(store: Store) -> None:
    Partials(store, PRINT).save([partial(ONE, 0, 5)])
    found = Partials(store, PRINT)
    found.load()
    store.write_text(f"{found.folder}/{store.files(found.folder)[0]}", "not parquet")
    store.write_text(f"{found.folder}/part-2.parquet", "nor this")
    assert found.find(ONE, 0) is None
    again = Partials(store, PRINT)
    again.load()
    assert len(again) == 0
