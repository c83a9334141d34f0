"""A store that is away for a while costs time, not work."""

from typing import Any

import pytest

from limo_ray.storage import patience


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def failing_until(clock: Clock, end: float, done: list[float]) -> Any:
    def write() -> None:
        if clock.now < end:
            raise OSError("no route to host")
        done.append(clock.now)

    return write


def test_a_write_is_tried_again_until_the_store_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, done = Clock(monkeypatch), []
    patience.patiently(failing_until(clock, 300, done), "decided/part-000000.parquet")
    assert len(done) == 1 and 300 <= done[0] < 340
    assert "decided/part-000000.parquet not written (no route to host): next try in 1 s" in (
        caplog.text
    )


def test_a_store_that_stays_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, done = Clock(monkeypatch), []
    with pytest.raises(OSError, match="no route"):
        patience.patiently(failing_until(clock, 10_000, done), "x")
    assert 600 <= clock.now < 700 and not done
