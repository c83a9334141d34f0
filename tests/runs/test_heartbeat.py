"""What a job writes of itself while it runs, and how it ended."""

import time
from pathlib import Path

import pytest
from ray.exceptions import RayActorError

from limo_ray.runs import heartbeat
from limo_ray.runs.heartbeat import Heartbeat, tell
from limo_ray.storage.store import Store


def told(store: Store) -> dict:
    return store.read_json("progress.json")


def test_it_says_what_runs_and_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.02)
    store = Store(str(tmp_path))
    steps = []
    with Heartbeat(store, "train", "x") as beat:
        assert told(store)["status"] == "running" and told(store)["phase"] == "starting"
        beat.phase("training")
        tell("training", lambda: {"step": len(steps)})
        steps.append(1)
        deadline = time.time() + 10
        while told(store)["facts"] != {"training": {"step": 1}}:
            assert time.time() < deadline
            time.sleep(0.01)
        assert told(store)["phase"] == "training"
        steps.append(2)
    assert told(store)["status"] == "done"
    assert told(store)["facts"] == {"training": {"step": 2}}, "the last word is the final one"
    tell("training", lambda: {"step": 9})
    assert told(store)["facts"] == {"training": {"step": 2}}


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (ValueError("store: s3://KEY:SECRET@b/x is away"), "failed", "store: s3://***@b/x is away"),
        (KeyboardInterrupt(), "interrupted", ""),
        (SystemExit(3), "failed", "3"),
    ],
)
def test_it_says_how_a_job_failed(
    error: BaseException, status: str, shown: str, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(type(error)), Heartbeat(store, "curate", "x"):
        raise error
    assert (told(store)["status"], told(store)["error"]) == (status, shown)


def test_facts_that_cannot_be_had_keep_their_last_word(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    answers: list[dict] = [{"a": 1}]

    def facts() -> dict:
        if not answers:
            raise RayActorError
        return answers.pop()

    with Heartbeat(store, "curate", "x") as beat:
        tell("sampling", facts)
        beat._collect()
        beat._collect()
    assert told(store)["facts"] == {"sampling": {"a": 1}}


def test_a_store_that_is_away_stops_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(str(tmp_path))

    def away(*args: object) -> None:
        raise OSError("no space left")

    with Heartbeat(store, "curate", "x") as beat:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write_json", away)
            beat.phase("one")
            beat.phase("two")
        beat.phase("three")
    assert caplog.text.count("progress.json not written (no space left)") == 1
    assert told(store)["status"] == "done"
