"""One driver at a time on a run: refused, released, taken over, lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest

from limo_ray.runs import lease
from limo_ray.runs.lease import Lease, LeaseError
from limo_ray.storage.store import Store

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from limo_ray.runs.lease import Lease
from limo_ray.storage.store import Store
with Lease(Store(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 1.0)
    return Store(str(tmp_path))


def holder(run: Store) -> subprocess.Popen[str]:
    """Another process that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.uri], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def foreign(run: Store, *, renewals: int = 0) -> None:
    """A claim of a driver on another host."""
    claim = {"host": "elsewhere", "pid": 1, "started": 0.0, "held": True, "renewals": renewals}
    run.write_json("lease/00000000000000000001-aa.json", claim)


@pytest.mark.process
def test_a_second_driver_is_refused_in_one_line_and_the_first_goes_on(run: Store) -> None:
    process = holder(run)
    try:
        with pytest.raises(LeaseError, match=rf"run: another driver .* \(pid {process.pid} on"):
            Lease(run, "run").__enter__()
        assert len(run.files("lease", ".json")) == 1, "the refused driver left its claim behind"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.process
def test_a_killed_driver_is_followed_at_once(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE_S", 600.0)
    process = holder(run)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Lease(run, "run"):
        assert len(run.files("lease", ".json")) == 1
    assert run.files("lease", ".json") == []


def test_a_process_of_the_same_number_is_another_driver(run: Store) -> None:
    """Containers start with the same process ids again and again."""
    claim = lease.Claim(host=lease.platform.node(), pid=os.getpid(), started=1.0)
    assert claim.process_is_gone()


def test_a_silent_driver_elsewhere_is_waited_for_then_followed(run: Store) -> None:
    foreign(run)
    began = time.monotonic()
    with Lease(run, "run"):
        assert time.monotonic() - began >= 1.0


def test_a_driver_elsewhere_that_died_long_ago_is_followed_at_once(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 60.0)
    foreign(run)
    old = time.time() - 100
    os.utime(run.path("lease/00000000000000000001-aa.json"), (old, old))
    began = time.monotonic()
    with Lease(run, "run"):
        assert time.monotonic() - began < 30


def test_a_living_driver_elsewhere_is_seen_by_its_renewals(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 60.0)
    foreign(run)
    renewed = threading.Timer(0.3, foreign, (run,), {"renewals": 1})
    renewed.start()
    with pytest.raises(LeaseError, match="pid 1 on elsewhere"):
        Lease(run, "run").__enter__()
    renewed.join()


def _race(uri: str, start: Barrier, ends: list[Event], out: "Queue[str]") -> None:
    lease.POLL_S, lease.RENEW_S = 0.01, 0.05
    for attempt, end in enumerate(ends):
        start.wait()
        try:
            with Lease(Store(f"{uri}/{attempt}"), "run"):
                out.put("held")
                end.wait()
        except LeaseError:
            out.put("refused")


@pytest.mark.process
def test_of_drivers_that_start_at_once_one_holds(run: Store) -> None:
    context = get_context("spawn")
    out: Queue[str] = context.Queue()
    start, ends = context.Barrier(4), [context.Event() for _ in range(3)]
    racers = [context.Process(target=_race, args=(run.uri, start, ends, out)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for end in ends:
        results = sorted(out.get(timeout=60) for _ in racers)
        end.set()
        assert results == ["held", "refused", "refused", "refused"]
    for racer in racers:
        racer.join()


@pytest.fixture
def as_in_a_job() -> Iterator[None]:
    """SIGTERM raises a KeyboardInterrupt; SIGINT is ignored, as after `nohup job &`."""
    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, interrupt)


def test_a_driver_that_lost_the_lease_stops(run: Store, as_in_a_job: None) -> None:
    began = time.monotonic()
    with pytest.raises(LeaseError, match="another driver took this run over"), Lease(run, "run"):
        for _ in range(3):  # a renewal that had begun writes the claim once more
            for file in run.files("lease", ".json"):
                run.delete(f"lease/{file}")
            time.sleep(20)
    assert time.monotonic() - began < 55, "a sleeping driver is woken"


def test_a_store_that_is_away_for_a_moment_loses_nothing(
    run: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def away(*args: object) -> None:
        asked.set()
        raise OSError("no route")

    with Lease(run, "run"):
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write_json", away)
            assert asked.wait(30)
        (file,) = run.files("lease", ".json")
        before = json.loads(run.read_text(f"lease/{file}") or "")["renewals"]
        deadline = time.monotonic() + 30
        while json.loads(run.read_text(f"lease/{file}") or "")["renewals"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert "lease not renewed (no route)" in caplog.text
