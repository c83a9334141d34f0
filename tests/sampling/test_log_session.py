"""One sampler's side of the log: what is new is read, what cannot be written is kept."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from limo_ray.attempts import index as folds
from limo_ray.attempts.log import AttemptLog, LogWriter, Store
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.log_session import Journal
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule

STAGE = Stage(name="s", rule=StopRule(), sampling=SamplingConfig(), fingerprint="f" * 16)
JUDGE = "a" * 16


class NoBoard:
    """A board that was lost: it knows of no fold."""

    class fold:
        @staticmethod
        def remote(fingerprint: str) -> list[Any]:
            return []


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr("limo_ray.sampling.log_session.ray.get", lambda found: found)
    return Journal(Store(str(tmp_path)), [STAGE], NoBoard, flush_s=0.01)


def attempt(index: int, verdict: Verdict = Verdict.WRONG) -> Attempt:
    return Attempt(
        problem_id=problem_id("p"), index=index, completion="7", finish_reason="stop",
        prompt_tokens=1, completion_tokens=1, verdict=verdict, extracted="7", judge=JUDGE,
    )  # fmt: skip


def known(journal: Journal) -> dict[int, Verdict]:
    return journal.prior(0, problem_id("p"), JUDGE).verdicts


def test_refresh_reads_what_others_logged_since(journal: Journal, monkeypatch) -> None:
    other = LogWriter(AttemptLog(journal.logs[0].store, STAGE.fingerprint))
    assert known(journal) == {}
    other.append(attempt(0, Verdict.CORRECT))
    other.flush()
    assert known(journal) == {}
    journal.refresh()
    assert known(journal) == {0: Verdict.CORRECT}

    read: list[Any] = []
    plain = folds.piece
    monkeypatch.setattr(folds, "piece", lambda batches: read.append(batches) or plain(batches))
    other.append(attempt(1))
    other.flush()
    journal.refresh()
    journal.refresh()
    assert known(journal) == {0: Verdict.CORRECT, 1: Verdict.WRONG}
    assert len(read) == 1, "a part that is known was read again"


def test_the_earlier_row_of_a_draw_counts_but_for_errors(journal: Journal) -> None:
    for index, verdict in ((0, Verdict.CORRECT), (0, Verdict.WRONG), (1, Verdict.ERROR)):
        other = LogWriter(journal.logs[0])
        other.append(attempt(index, verdict))
        other.flush()
        journal.refresh()
    assert known(journal) == {0: Verdict.CORRECT, 1: Verdict.ERROR}
    assert journal.prior(0, problem_id("p"), JUDGE).stale == {1}


def test_what_the_store_does_not_take_is_written_later(journal: Journal, monkeypatch) -> None:
    """Nobody is told that it was written before it was."""
    full = [True]
    plain = Store.write_bytes

    def write(self: Store, name: str, content: Any) -> None:
        if full:
            raise OSError(28, "No space left on device")
        plain(self, name, content)

    monkeypatch.setattr(Store, "write_bytes", write)

    async def live() -> None:
        flushing = asyncio.create_task(journal.keep_flushing())
        journal.append(0, attempt(0))
        waiting = asyncio.create_task(journal.written())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        full.clear()
        await asyncio.wait_for(waiting, timeout=10)
        flushing.cancel()

    asyncio.run(live())
    assert len(journal.logs[0].fold()) == 1


def test_a_failed_job_does_not_wait_for_a_store_that_is_down(journal: Journal, monkeypatch) -> None:
    def write(self: Store, name: str, content: Any) -> None:
        raise OSError("down")

    monkeypatch.setattr(Store, "write_bytes", write)

    async def live() -> None:
        journal.append(0, attempt(0))
        waiting = asyncio.create_task(journal.written())
        await asyncio.sleep(0)
        journal.flush_at_last()  # tells of the loss, raises nothing
        journal.fail(RuntimeError("engine"))
        await asyncio.wait_for(waiting, timeout=10)

    asyncio.run(live())
