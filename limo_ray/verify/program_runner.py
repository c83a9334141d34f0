"""Runs programs in the sandbox: the trusted end, which holds the clock and the descriptors.

    with borrowed(CodeConfig()) as sandbox:
        ended = sandbox.run(description, b"input", deadline, each_line)

A sandbox is a fork server (`limo_ray.verify.sandbox`) that is started once per thread that verifies
and then runs thousands of programs, one at a time, each in a fork of its own.
"""

import contextlib
import errno
import json
import logging
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from limo_ray.core.errors import VerificationError
from limo_ray.verify import sandbox, walls
from limo_ray.verify.walls import seccomp

log = logging.getLogger(__name__)

OUTPUT = 8 * 2**20  # bytes of output or of values of one run, beyond which the program is ended
THREADS = 128  # of one program at once
REQUIRED = ("landlock", "seccomp")
START_S = 60.0  # a server that is not ready after this has failed
KILL_S = 10.0  # a program that is not dead this long after it was killed has a broken server


@dataclass(kw_only=True, slots=True)
class CodeConfig:
    without_kernel_walls: bool = False
    """Run programs (domain `code`) even where the kernel lacks Landlock or seccomp: then they can
    read and change what this user can. Only for trusted answers."""


class Ended(NamedTuple):
    """How a run ended: output, exit code (negative: the signal), whether it was cut short here."""

    output: bytes
    code: int
    cut: bool


class SandboxBroken(RuntimeError):
    """The fork server died or does not answer: it says nothing about the program."""


class Sandbox:
    """A fork server and the descriptors to it. One run at a time; not thread-safe."""

    def __init__(self, settings: sandbox.Settings | None = None) -> None:
        settings = settings or sandbox.Settings()
        self.script = sandbox.__file__
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control = ours
        folder = str(Path(walls.__file__).parent)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-I", "-S", "-X", "utf8", self.script, folder,
                    str(theirs.fileno()), json.dumps(settings._asdict()),
                ],
                pass_fds=[theirs.fileno()],
                # Pipes, as each program has: Python's own streams are made once, for a pipe.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.defpath, "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2",
                    "TMPDIR": tempfile.gettempdir()},
                start_new_session=True,
            )  # fmt: skip
        self.control.settimeout(START_S)
        try:
            message = self.control.recv(5)
        except OSError as error:
            self.close()
            raise SandboxBroken(f"the code sandbox did not start: {error}") from error
        if message[:1] != b"W":
            self.close()
            raise SandboxBroken("the code sandbox did not start")
        self.walls: tuple[str, ...] = ()

    def close(self) -> None:
        """End the server with what it runs; it removes its files."""
        self.control.close()
        try:
            self.process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def run(
        self,
        description: dict[str, object],
        program_input: bytes,
        deadline: float,
        each_line: Callable[[bytes], bool],
    ) -> Ended | None:
        """Run one program; None past the deadline (of `time.monotonic`).

        Args:
            description: what `limo_ray.verify.sandbox` runs.
            program_input: what the program can read.
            deadline: when the program is killed.
            each_line: called with each line of the report; False ends the program.

        Raises:
            SandboxBroken: when the server is lost, which says nothing about the program.
        """
        run = _Run(self.control, json.dumps(description).encode(), program_input, each_line)
        try:
            return run.until(deadline)
        except (BrokenPipeError, ConnectionError, EOFError, TimeoutError) as error:
            raise SandboxBroken(f"the code sandbox is lost: {error}") from error
        finally:
            run.close()


class _Run:
    """One run: its pipes, what came out of them, its threads."""

    def __init__(
        self,
        control: socket.socket,
        description: bytes,
        program_input: bytes,
        each_line: Callable[[bytes], bool],
    ) -> None:
        self.control = control
        self.each_line = each_line
        self.code: int | None = None
        self.cut = False
        self.listener: int | None = None
        self.started = 0
        self.read = {name: bytearray() for name in ("output", "report")}
        pipes = [os.pipe() for _ in range(4)]
        inputs, outputs = pipes[:2], pipes[2:]
        self.writing = {inputs[0][1]: program_input, inputs[1][1]: description}
        self.reading = {outputs[0][0]: "output", outputs[1][0]: "report"}
        self.poll = select.poll()
        theirs = [inputs[0][0], inputs[1][0], outputs[0][1], outputs[1][1]]
        try:
            socket.send_fds(control, [b"R" + bytes(4)], theirs)
        except OSError:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.poll.register(control, select.POLLIN)
        for fd in self.writing:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLOUT)
        for fd in self.reading:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLIN)

    def close(self) -> None:
        """Close what is still open."""
        for fd in (*self.writing, *self.reading):
            os.close(fd)
        self.writing, self.reading = {}, {}
        if self.listener is not None:
            self._no_more_threads()

    def until(self, deadline: float) -> Ended | None:
        """Serve the run until its process has ended; kill it at the deadline or when it is cut."""
        late = killed = False
        while self.code is None:
            left = deadline - time.monotonic()
            if killed and left <= 0:
                raise TimeoutError("a killed program does not end")
            if not killed and (self.cut or left <= 0):
                late, killed = not self.cut, True
                self.control.sendall(b"K" + bytes(4))
                deadline = time.monotonic() + KILL_S
                continue
            for fd, event in self.poll.poll(left * 1000):
                if fd == self.listener and not event & select.POLLIN:
                    self._no_more_threads()
                else:
                    self._serve(fd)
        if not late and not self.cut:
            for fd in list(self.reading):  # what it wrote last; nobody writes any more
                while fd in self.reading and not self.cut and self._read(fd):
                    pass
        return None if late else Ended(bytes(self.read["output"]), self.code, self.cut)

    def _serve(self, fd: int) -> None:
        if fd == self.control.fileno():
            self._message()
        elif fd == self.listener:
            self._thread(fd)
        elif fd in self.writing:
            self._write(fd)
        elif fd in self.reading:
            self._read(fd)

    def _message(self) -> None:
        message, given, _, _ = socket.recv_fds(self.control, 5, 1)
        if message[:1] == b"X":
            self.code = struct.unpack(">i", message[1:])[0]
        elif message[:1] == b"L" and given:
            self.listener = given[0]
            self.poll.register(self.listener, select.POLLIN)
        else:
            raise EOFError("no message")

    def _write(self, fd: int) -> None:
        try:
            written = os.write(fd, self.writing[fd][:65536])
            self.writing[fd] = self.writing[fd][written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.writing[fd] = b""
        if not self.writing[fd]:
            self.poll.unregister(fd)
            del self.writing[fd]
            os.close(fd)

    def _read(self, fd: int) -> bool:
        """Take what there is; False when there is nothing."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self.poll.unregister(fd)
            del self.reading[fd]
            os.close(fd)
            return False
        name = self.reading[fd]
        searched = len(self.read[name])
        self.read[name] += data
        if len(self.read[name]) > OUTPUT:
            self.cut = True
        while (
            name == "report"
            and not self.cut
            and ((end := self.read[name].find(b"\n", searched)) >= 0)
        ):
            line = bytes(self.read[name][:end])
            del self.read[name][: end + 1]
            searched = 0
            self.cut = not self.each_line(line)
        return True

    def _thread(self, listener: int) -> None:
        """A program asks to start a thread: let it, up to THREADS at once."""
        try:
            notice = seccomp.receive(listener)
            self.started += 1
            alive = _threads(notice.thread) or self.started
            seccomp.reply(listener, notice, alive < THREADS)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the thread was killed meanwhile
                raise

    def _no_more_threads(self) -> None:
        """No process is left that could ask."""
        assert self.listener is not None
        self.poll.unregister(self.listener)
        os.close(self.listener)
        self.listener = None


def _threads(thread: int) -> int:
    """How many threads the process of a thread has; 0 when it cannot be read."""
    try:
        status = Path(f"/proc/{thread}/stat").read_bytes()
        return int(status.rpartition(b")")[2].split()[17])
    except (OSError, ValueError, IndexError):
        return 0


# ---------------------------------------------------------------- sandboxes of this process

_idle: list[Sandbox] = []
_lock = threading.Lock()
_reported: set[str] = set()


def _forget() -> None:
    """In a fork: the sandboxes belong to the parent."""
    global _lock
    _lock = threading.Lock()
    for other in _idle:
        other.control.close()
    _idle.clear()


os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def borrowed() -> Iterator[Sandbox]:
    """A sandbox of this process for the time of some runs; one that breaks is thrown away."""
    with _lock:
        found = _idle.pop() if _idle else None
    if found is not None and (found.script != sandbox.__file__ or found.process.poll() is not None):
        found.close()
        found = None
    found = found or Sandbox()
    try:
        yield found
    except BaseException:
        found.close()
        raise
    with _lock:
        _idle.append(found)


def check(config: CodeConfig, settings: sandbox.Settings | None = None) -> tuple[str, ...]:
    """The walls that stand around programs on this machine, logged once.

    Raises:
        VerificationError: without Landlock or seccomp, unless the config allows it.
    """
    standing: list[str] = []

    def first(line: bytes) -> bool:
        report = json.loads(line)
        standing.extend(report["walls"])
        if "landlock" in standing:
            standing[standing.index("landlock")] = f"Landlock {report['landlock']}"
        return True

    trial = Sandbox(settings)
    try:
        spec = {"code": "", "required": [], "seconds": 5}
        ended = trial.run(spec, b"", time.monotonic() + START_S, first)
    finally:
        trial.close()
    if ended is None or ended.code != 0:
        raise VerificationError("the code sandbox does not run an empty program")
    names = {name.split()[0].lower() for name in standing}
    missing = [wall for wall in (*REQUIRED, "namespaces") if wall not in names]
    text = ", ".join([*standing, "audit hook", "limits"])
    text += f"; missing: {', '.join(missing)}" if missing else ""
    required = [wall for wall in REQUIRED if wall not in names]
    if required and not config.without_kernel_walls:
        raise VerificationError(
            f"domain code is refused: this kernel lacks {' and '.join(required)}, so a program "
            "could reach this user's files; sampler.code.without_kernel_walls=true runs it anyway"
        )
    if text not in _reported:
        _reported.add(text)
        log.log(logging.WARNING if required else logging.INFO, "code sandbox: %s", text)
    return tuple(standing)
