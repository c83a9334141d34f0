"""Attacks on the machine, each with all walls and with each wall missing: none succeeds."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limo_ray.verify import CodeConfig, VerificationError, Verifier, code, program_runner
from limo_ray.verify.program_runner import REQUIRED, Sandbox, check
from limo_ray.verify.sandbox import Settings
from tests.verify.attacks import ATTACKS, HOOK_ONLY

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's walls are Linux's"),
]

WALLS = ((), ("hook",), ("namespaces",), ("hook", "namespaces"))


class Target:
    """What attacks look for: files, a process, sockets of this user; whether they changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "victim"
        self.file.write_text("here")
        os.utime(self.file, (10**9, 10**9))
        self.process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        self.port = socket.create_server(("127.0.0.1", 0))
        self.abstract = f"victim-{os.getpid()}"
        self.sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        self.sockets[0].bind(f"\0{self.abstract}")
        self.sockets[1].bind(str(folder / "socket"))
        for one in self.sockets:
            one.listen()
        self.before = self.state()

    def state(self) -> list[object]:
        status, pid = self.file.stat(), self.process.pid
        return [
            sorted(os.listdir(self.folder)), self.file.read_text(), status.st_mode, status.st_uid,
            status.st_mtime, status.st_nlink, self.process.poll(),
            os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid),
            os.sched_getscheduler(pid), os.getpgid(pid),
        ]  # fmt: skip

    def aimed(self, attack: str) -> str:
        for name, value in {
            "VICTIM": self.file, "FOLDER": self.folder, "PID": self.process.pid,
            "PORT": self.port.getsockname()[1], "ADDRESS": self.abstract,
            "PATH_SOCKET": self.folder / "socket",
        }.items():  # fmt: skip
            attack = attack.replace(name, str(value))
        return attack

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for one in (self.port, *self.sockets):
            one.close()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target(tmp_path_factory.mktemp("outside"))
    yield target
    target.close()


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[tuple[str, ...], Sandbox]]:
    """A sandbox for each set of missing walls."""
    made = {without: Sandbox(Settings(without=without)) for without in WALLS}
    yield made
    for one in made.values():
        one.close()


def succeeds(sandbox: Sandbox, code: str, required: tuple[str, ...] = REQUIRED) -> bool:
    """Whether code in the sandbox ends without an exception, or becomes a program that does."""
    lines: list[bytes] = []

    def each(line: bytes) -> bool:
        lines.append(line)
        return len(lines) < 2

    spec = {"code": code, "required": required, "seconds": 5, "entry_point": None, "token": "t",
            "steps": [[[], True]]}  # fmt: skip
    ended = sandbox.run(spec, b"", time.monotonic() + 20, each)
    assert lines, "the program was not run"
    return lines[1:] == [b"[]"] or (ended is not None and ended.code == 0)


def test_there_are_enough_attacks_and_honest_code_runs(
    sandboxes: dict[tuple[str, ...], Sandbox],
) -> None:
    assert len(ATTACKS) >= 150
    for one in sandboxes.values():
        assert succeeds(one, "open('f', 'w').write('x')\nassert open('f').read() == 'x'")
        assert not succeeds(one, "1 / 0")


@pytest.mark.parametrize("without", WALLS, ids=lambda walls: "no " + "+".join(walls or ["missing"]))
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_succeeds(
    name: str, without: tuple[str, ...], target: Target,
    sandboxes: dict[tuple[str, ...], Sandbox],
) -> None:  # fmt: skip
    if "hook" in without and name in HOOK_ONLY:
        pytest.skip("concerns the hook itself")
    assert not succeeds(sandboxes[without], target.aimed(ATTACKS[name]))
    assert target.state() == target.before


def test_the_walls_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    program_runner._reported.clear()
    with caplog.at_level("INFO"):
        names = check(CodeConfig())
        assert check(CodeConfig()) == names
    assert [n.split()[0] for n in names][:2] == ["Landlock", "seccomp"] and names[0] != "Landlock 0"
    assert len(caplog.records) == 1
    missing = "" if "namespaces" in names else "; missing: namespaces"
    expected = f"code sandbox: {', '.join(names)}, audit hook, limits{missing}"
    assert caplog.records[0].message == expected


def test_a_verifier_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(without=("landlock",))
    monkeypatch.setattr(code, "_checked", lambda weak: check(CodeConfig(), settings))
    answer = '{"tests": ["assert f() == 1"]}'
    with Verifier() as verifier, pytest.raises(VerificationError, match="landlock"):
        verifier.check(answer, "```python\ndef f(): return 1\n```", "code")


@pytest.mark.parametrize("wall", REQUIRED)
def test_the_domain_is_refused_without_a_required_wall(wall: str) -> None:
    settings = Settings(without=(wall,))
    with pytest.raises(VerificationError, match=wall):
        check(CodeConfig(), settings)
    assert wall not in " ".join(check(CodeConfig(without_kernel_walls=True), settings)).lower()
    sandbox = Sandbox(settings)
    try:  # each program's process makes sure, too
        assert succeeds(sandbox, "1 + 1", required=())
        assert not succeeds(sandbox, "1 + 1")
    finally:
        sandbox.close()
