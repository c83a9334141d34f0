"""One sampler's side of the log: what is new is read, what cannot be written is kept."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from limo_ray.attempts import log as logs
from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.records import Attempt, Verdict, problem_id
from limo_ray.engines.base import SamplingConfig
from limo_ray.sampling.log_session import LogSession
from limo_ray.sampling.stages import Stage
from limo_ray.sampling.stop_rule import StopRule
from limo_ray.storage.store import Store

STAGE = Stage(name="s", rule=StopRule(), sampling=SamplingConfig(), fingerprint="f" * 16)
JUDGE = "a" * 16


class LostCoordinator:
    """A coordinator that was lost: it has no index."""

    class index:
        @staticmethod
        def remote(fingerprint: str) -> list[Any]:
            return []


@pytest.fixture
def log_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogSession:
    monkeypatch.setattr("limo_ray.sampling.log_session.ray.get", lambda found: found)
    return LogSession(Store(str(tmp_path)), [STAGE], LostCoordinator, flush_s=0.01)


def attempt(index: int, verdict: Verdict = Verdict.WRONG) -> Attempt:
    return Attempt(
        problem_id=problem_id("p"), index=index, completion="7", finish_reason="stop",
        prompt_tokens=1, completion_tokens=1, verdict=verdict, extracted="7", judge=JUDGE,
    )  # fmt: skip


def known(log_session: LogSession) -> dict[int, Verdict]:
    return log_session.known(0, problem_id("p"), JUDGE).verdicts


def test_refresh_reads_what_others_logged_since(log_session: LogSession, monkeypatch) -> None:
    other = LogWriter(AttemptLog(log_session.logs[0].store, STAGE.fingerprint))
    assert known(log_session) == {}
    other.append(attempt(0, Verdict.CORRECT))
    other.flush()
    assert known(log_session) == {}
    log_session.refresh()
    assert known(log_session) == {0: Verdict.CORRECT}

    read: list[Any] = []
    plain = logs.index_of_batches
    monkeypatch.setattr(
        logs, "index_of_batches", lambda batches: read.append(batches) or plain(batches)
    )
    other.append(attempt(1))
    other.flush()
    log_session.refresh()
    log_session.refresh()
    assert known(log_session) == {0: Verdict.CORRECT, 1: Verdict.WRONG}
    assert len(read) == 1, "a part that is known was read again"


def test_the_earlier_row_of_an_attempt_counts_but_for_errors(log_session: LogSession) -> None:
    for index, verdict in ((0, Verdict.CORRECT), (0, Verdict.WRONG), (1, Verdict.ERROR)):
        other = LogWriter(log_session.logs[0])
        other.append(attempt(index, verdict))
        other.flush()
        log_session.refresh()
    assert known(log_session) == {0: Verdict.CORRECT, 1: Verdict.ERROR}
    assert log_session.known(0, problem_id("p"), JUDGE).stale == {1}


def test_what_the_store_does_not_take_is_written_later(
    log_session: LogSession, monkeypatch
) -> None:
    """No attempt counts as written before it is."""
    full = [True]
    plain = Store.write_bytes

    def write(self: Store, name: str, content: Any) -> None:
        if full:
            raise OSError(28, "No space left on device")
        plain(self, name, content)

    monkeypatch.setattr(Store, "write_bytes", write)

    async def live() -> None:
        flushing = asyncio.create_task(log_session.keep_flushing())
        log_session.append(0, attempt(0))
        waiting = asyncio.create_task(log_session.written())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        full.clear()
        await asyncio.wait_for(waiting, timeout=10)
        flushing.cancel()

    asyncio.run(live())
    assert len(log_session.logs[0].read_index()) == 1


def test_a_failed_job_does_not_wait_for_a_store_that_is_down(
    log_session: LogSession, monkeypatch
) -> None:
    def write(self: Store, name: str, content: Any) -> None:
        raise OSError("down")

    monkeypatch.setattr(Store, "write_bytes", write)

    async def live() -> None:
        log_session.append(0, attempt(0))
        waiting = asyncio.create_task(log_session.written())
        await asyncio.sleep(0)
        log_session.final_flush()  # logs the loss, raises nothing
        log_session.fail(RuntimeError("engine"))
        await asyncio.wait_for(waiting, timeout=10)

    asyncio.run(live())
