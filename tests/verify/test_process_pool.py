"""The verifier with a hard limit of time, from every place that it is called from."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limo_ray.verify import Verdict, Verification, Verifier, verify

pytestmark = pytest.mark.process

# Pairs that need a worker: (answer, completion, right).
HARD = [
    ("1+\\sqrt{2}", "\\boxed{\\sqrt{3+2\\sqrt{2}}}", True),
    ("\\lfloor x \\rfloor", "\\boxed{\\lceil 2x \\rceil}", False),
    ("\\log_2 8", "\\boxed{3}", True),
    ("x \\in [-2,7]", "\\boxed{[-2,7]}", True),
]
# One single call in C that nothing but a kill can end: a huge power, as both answers have it.
ENDLESS = ("\\binom{10^{10}}{5}+x", "\\boxed{\\binom{10000000000}{5000000000}}", "math")
SLEEP = json.dumps({"tests": ["assert True"]})
ROOT = Path(__file__).parents[2]


def program(text: str) -> str:
    return f"```python\n{text}\n```"


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        child = int(process.name)
        try:
            if parent(child) == pid:
                found += [child, *descendants(child)]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def supervisors() -> list[int]:
    """The worker processes of this process; a Ray of the test session has other ones."""
    name = b"limo_ray.verify.worker"
    mine = [pid for pid in descendants(os.getpid()) if parent(pid) == os.getpid()]
    return [pid for pid in mine if name in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(workers=2, timeout_s=1.0) as shared:
        shared.start()
        yield shared


def expected() -> list[Verdict]:
    return [Verdict.CORRECT if right else Verdict.WRONG for *_, right in HARD]


def test_easy_pairs_start_no_process() -> None:
    before = set(supervisors())
    with Verifier() as v:
        assert v.check("1/2", "\\boxed{0.5}") == Verification(Verdict.CORRECT, "0.5")
        assert v.check("5", "hm") == Verification(Verdict.UNPARSED, None)
        nines = [("5", f"\\boxed{{{n}}}", "math") for n in range(9)]
        assert v.verify_many(nines).count(Verdict.CORRECT) == 1
        assert set(supervisors()) <= before


def test_the_same_as_verify(verifier: Verifier) -> None:
    assert verifier.verify_many([(a, c, "math") for a, c, _ in HARD]) == expected()
    assert [verify(a, c) for a, c, _ in HARD] == expected()
    assert verifier.check(*HARD[0][:2]).extracted == "\\sqrt{3+2\\sqrt{2}}"


def test_repeated_pairs_are_worked_out_once(verifier: Verifier) -> None:
    verifier.clear()
    pairs = [(a, c, "math") for a, c, _ in HARD] * 500
    began = time.monotonic()
    assert verifier.verify_many(pairs) == expected() * 500
    assert time.monotonic() - began < 60  # 2,000 of them take minutes


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_runs_over_is_killed(verifier: Verifier) -> None:
    verifier.clear()
    began = time.monotonic()
    assert verifier.check(*ENDLESS).verdict is Verdict.TIMEOUT
    assert time.monotonic() - began < verifier.timeout_s + 20
    # The worker is back at once, and what was killed is gone.
    assert verifier.verify_many([(a, c, "math") for a, c, _ in HARD]) == expected()
    time.sleep(0.2)
    workers = [pid for s in supervisors() for pid in (s, *descendants(s))]
    before = {pid: cpu_seconds(pid) for pid in workers}
    time.sleep(0.5)
    assert [pid for pid in workers if cpu_seconds(pid) - before[pid] > 0.2] == []


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_program_that_runs_over(verifier: Verifier) -> None:
    began = time.monotonic()
    judged = verifier.check(SLEEP, program("while True: pass"), "code")
    assert judged.verdict is Verdict.TIMEOUT
    assert time.monotonic() - began < verifier.timeout_s + 20
    assert verifier.check(SLEEP, program("x = 1"), "code").verdict is Verdict.CORRECT


def test_a_crash_is_an_error_and_is_survived() -> None:
    """A worker's fork that is killed from outside, as the kernel does when memory runs out."""
    before = set(supervisors())
    done: list[Verdict] = []
    with Verifier(timeout_s=100) as v:
        slow = threading.Thread(target=lambda: done.append(v.check(*ENDLESS).verdict))
        slow.start()
        busy: list[int] = []
        while not busy:
            assert slow.is_alive()
            time.sleep(0.05)
            forks = [fork for each in {*supervisors()} - before for fork in descendants(each)]
            busy = [fork for fork in forks if cpu_seconds(fork) > 0.5]
        for fork in busy:
            os.kill(fork, signal.SIGKILL)
        slow.join()
        assert done == [Verdict.ERROR]
        for supervisor in {*supervisors()} - before:
            os.kill(supervisor, signal.SIGKILL)
        assert v.verify_many([(a, c, "math") for a, c, _ in HARD]) == expected()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_that_is_killed_while_it_starts_is_started_again() -> None:
    before = set(supervisors())
    with Verifier() as v, ThreadPoolExecutor(1) as thread:
        judged = thread.submit(v.check, "\\log_2 8", "\\boxed{3}")
        while not (started := set(supervisors()) - before):
            time.sleep(0.01)
        os.kill(started.pop(), signal.SIGKILL)  # it needs longer than this to be ready
        assert judged.result().verdict is Verdict.CORRECT


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_late_worker_is_not_waited_for_and_not_lost() -> None:
    """A supervisor that gets no processor time, as on a machine with too much to do."""
    before = set(supervisors())
    with Verifier(timeout_s=0.5) as v:
        assert v.check("\\log_2 8", "\\boxed{3}").verdict is Verdict.CORRECT
        [supervisor] = set(supervisors()) - before
        late = threading.Timer(0.1, os.kill, (supervisor, signal.SIGSTOP))
        late.start()
        began = time.monotonic()
        assert v.check(*ENDLESS).verdict is Verdict.TIMEOUT
        assert time.monotonic() - began < v.timeout_s + 20
        threading.Timer(0.5, os.kill, (supervisor, signal.SIGCONT)).start()
        assert v.check("\\log_2 16", "\\boxed{4}").verdict is Verdict.CORRECT
        assert set(supervisors()) - before == {supervisor}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_is_bounded() -> None:
    before = set(supervisors())
    with Verifier(memory_mb=200) as v:
        assert v.check("\\log_2 8", "\\boxed{3}").verdict is Verdict.CORRECT
        [supervisor] = set(supervisors()) - before
        [fork] = descendants(supervisor)
        limits = Path(f"/proc/{fork}/limits").read_text()
        size = int(Path(f"/proc/{supervisor}/statm").read_text().split()[0]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    limit = int(next(line for line in limits.splitlines() if "address space" in line).split()[3])
    assert size <= limit <= size + 220 * 2**20


def test_threads(verifier: Verifier) -> None:
    verifier.clear()
    with ThreadPoolExecutor(8) as threads:
        judged = threads.map(lambda pair: verifier.check(*pair[:2]).verdict, HARD * 8)
    assert list(judged) == expected() * 8


def test_asyncio_is_not_held_up(verifier: Verifier) -> None:
    verifier.clear()

    async def main() -> tuple[list[Verification], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.02)
                ticks += 1

        ticking = asyncio.create_task(tick())
        judged = await asyncio.gather(
            verifier.averify(*ENDLESS), *(verifier.averify(a, c) for a, c, _ in HARD)
        )
        ticking.cancel()
        return judged, ticks

    judged, ticks = asyncio.run(main())
    assert [j.verdict for j in judged] == [Verdict.TIMEOUT, *expected()]
    assert ticks > 5  # of 50; a loop that is held up has none


def test_an_unfinished_chain(verifier: Verifier) -> None:
    assert verifier.check("7", "3 + 4 = 7 and", complete=False).verdict is Verdict.UNPARSED
    assert verifier.check("7", "3 + 4 = 7 and").verdict is Verdict.CORRECT
    judged = asyncio.run(verifier.averify("7", "3 + 4 = 7 and", complete=False))
    assert judged == Verification(Verdict.UNPARSED, None)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_process_outlives_a_killed_owner(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import threading, time
            from limo_ray.verify import Verifier
            # No `if __name__ == "__main__"`: a worker must not run the job's script again.
            v = Verifier(workers=2, timeout_s=600)
            v.start()
            threading.Thread(target=v.check, args={ENDLESS!r}, daemon=True).start()
            program = ({SLEEP!r}, {program("while True: pass")!r}, "code")
            threading.Thread(target=v.check, args=program, daemon=True).start()
            time.sleep(1)
            print("running", flush=True)
            time.sleep(600)
            """
        )
    )
    owner = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "running\n"
    children = descendants(owner.pid)
    assert len(children) >= 5  # two supervisors, two forks, the program
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(alive(pid) for pid in children):
        time.sleep(0.05)
    assert [pid for pid in children if alive(pid)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_closed_is_closed() -> None:
    before = set(supervisors())
    v = Verifier()
    with v:
        assert v.check("\\log_2 8", "\\boxed{3}").verdict is Verdict.CORRECT
        assert len(set(supervisors()) - before) == 1
    assert set(supervisors()) <= before
    with pytest.raises(RuntimeError, match="closed"):
        v.check("\\log_2 16", "\\boxed{4}")


@pytest.mark.parametrize(
    ("options", "name"), [({"workers": 0}, "workers"), ({"timeout_s": 0}, "timeout_s")]
)
def test_options_are_checked(options: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Verifier(**options)
