"""A process that runs code which a model wrote, with walls around each program.

Started as `python -I -S sandbox.py WALLS SOCKET SETTINGS` it is a fork server: for each request on
the socket it forks a process that raises the walls (`limo_ray.verify.walls`) and runs one program.
`limo_ray.verify.program_runner` is the other end. Needs the standard library only.

A message has five bytes: a letter and a number. From the runner: R, run a program, with the
descriptors of its input, its description, its output and its report; K, kill it. To the runner: W,
which namespaces there are (1 or 0); L, with the descriptor on which threads ask to be started; X,
a program's exit code. The description is JSON: code, required (walls without which it must not
run), seconds (of CPU), and, unless the program is to be judged by its output, steps and a token.
The report is JSON lines: the walls that stand; then for each step the values of its expressions,
or, for a statement, the token.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

if __name__ == "__main__":  # without site-packages: the walls come from the folder that is named
    _init = os.path.join(sys.argv[1], "__init__.py")
    _spec = importlib.util.spec_from_file_location(
        "walls", _init, submodule_search_locations=[sys.argv[1]]
    )
    assert _spec is not None
    sys.modules["walls"] = importlib.util.module_from_spec(_spec)
    from walls import audit, files, landlock, namespaces, seccomp, values
else:
    from limo_ray.verify.walls import audit, files, landlock, namespaces, seccomp, values

_PRELUDE = """
import bisect, collections, functools, heapq, itertools, math, operator, random, re, string, sys
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
"""

forbid = audit.forbid
NOT_RUN = 112  # exit code of a process that could not raise the walls
_REPORT, _KEPT = 3, 4
_LOOK_EVERY_MS = 50


class Settings(NamedTuple):
    """What a program may use, and, for tests, the walls that are left out."""

    memory_mb: int = 1024
    file_mb: int = 16
    disk_mb: int = 64
    files: int = 2_000
    open_files: int = 64
    without: tuple[str, ...] = ()


class Job(NamedTuple):
    """What a fork needs to run one program: the server's socket, descriptors, the folder."""

    control: socket.socket
    given: list[int]
    folder: str
    isolated: bool


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def limit(seconds: int, settings: Settings) -> None:
    """Limits of CPU seconds, address space, file size, open files, locks, queues; no core file."""
    limits = [
        ("CPU", seconds),
        ("AS", settings.memory_mb * 2**20),
        ("FSIZE", settings.file_mb * 2**20),
        ("NOFILE", settings.open_files),
        ("CORE", 1),  # 0 would let a program that takes core files have them
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
        ("NICE", 0),
        ("RTPRIO", 0),
    ]
    for name, value in limits:
        which = getattr(resource, f"RLIMIT_{name}", None)  # macOS has not all of them
        if which is not None:
            with contextlib.suppress(ValueError, OSError):  # nor a limit of address space
                resource.setrlimit(which, (value, value))


def isolate(folder: str, without: tuple[str, ...], hand_over: Callable[[int], None]) -> list[str]:
    """Raise the kernel's walls around this process; the names of those that stand now."""
    standing: list[str] = []
    if sys.platform != "linux":
        return standing
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # of all processes, the first to go when memory is short
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which the next ones need
    if "landlock" not in without:
        with contextlib.suppress(seccomp.Unsupported):
            landlock.raise_wall(folder)
            standing.append("landlock")
    namespaces.drop_capabilities()
    die_with_parent()
    if "seccomp" not in without:
        with contextlib.suppress(seccomp.Unsupported):
            seccomp.raise_wall(hand_over)
            standing.append("seccomp")
    return standing


# ---------------------------------------------------------------- the server


def serve(control: socket.socket, settings: Settings, isolated: bool) -> Job:
    """Answer requests until the runner is gone. Returns in the fork that is to run a program."""
    wakeup, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    folder = namespaces.scratch() if isolated else ""
    if isolated:
        namespaces.hide()
    _say(control, b"W", isolated)
    while True:
        if isolated:
            namespaces.mount(folder, settings.disk_mb, settings.files)
        message, given, _, _ = socket.recv_fds(control, 5, 4)
        while message[:1] == b"K":  # for a program that had ended
            message, given, _, _ = socket.recv_fds(control, 5, 4)
        if not message:
            os._exit(0)
        if not isolated:
            folder = f"{_temporary()}/verify-{os.getppid()}-{os.urandom(8).hex()}"
            os.mkdir(folder, 0o700)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return Job(control, given, folder, isolated)
        for fd in given:
            os.close(fd)
        code = _watch(pid, control, wakeup, None if isolated else folder, settings)
        if isolated:
            namespaces.unmount(folder)
        else:
            files.remove(folder)
        if code is None:
            os._exit(0)
        _say(control, b"X", code)


def _temporary() -> str:
    return os.environ["TMPDIR"]


def _say(control: socket.socket, letter: bytes, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the runner is gone
        control.sendall(letter + struct.pack(">i", number))


def _watch(
    pid: int, control: socket.socket, wakeup: int, folder: str | None, settings: Settings
) -> int | None:
    """Wait for a program's end, or bring it about; its exit code, None when the runner is gone."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    there = True
    while True:
        ready = dict(poll.poll(_LOOK_EVERY_MS if folder else None))
        if control.fileno() in ready and there:
            there = bool(control.recv(5))
            os.kill(pid, signal.SIGKILL)
            if not there:
                poll.unregister(control)
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 512)
        if folder and files.too_much(folder, pid, settings.disk_mb, settings.files):
            os.kill(pid, signal.SIGKILL)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) if there else None


def start(control: socket.socket, settings: Settings) -> Job:
    """Fork the server into namespaces of its own where they are allowed, and wait for its end.

    Returns in the forks that are to run programs only.
    """
    isolated = "namespaces" not in settings.without and _can_be_isolated(settings)
    if isolated:
        namespaces.enter()
    guardian = os.getpid()
    pid = os.fork()  # in the new PID namespace it is the first process, whose death ends all others
    if pid == 0:
        die_with_parent()
        if not isolated and os.getppid() != guardian:
            os._exit(1)
        return serve(control, settings, isolated)
    control.close()
    os.waitpid(pid, 0)
    for name in os.listdir(_temporary()):  # of a server that was killed
        if name.startswith(f"verify-{guardian}-"):
            files.remove(f"{_temporary()}/{name}")
    os._exit(0)


def _can_be_isolated(settings: Settings) -> bool:
    """Try it in a fork, for a process cannot leave a namespace again."""
    if sys.platform != "linux":
        return False
    pid = os.fork()
    if pid == 0:
        try:
            namespaces.enter()
            namespaces.mount(namespaces.scratch(), settings.disk_mb, settings.files)
            namespaces.hide()
            child = os.fork()
            if child == 0:
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---------------------------------------------------------------- one program


def run(job: Job, settings: Settings, prelude: dict[str, object]) -> None:
    """Run the program described on a descriptor, behind the walls, in this process."""
    control = _take(job)
    with open(_KEPT, "rb") as file:
        spec = json.load(file)
    folder = job.folder
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)
    limit(spec["seconds"], settings)

    abi = landlock.version()  # which cannot be asked for behind the walls

    def hand_over(listener: int) -> None:
        socket.send_fds(control, [b"L" + bytes(4)], [listener])

    standing = isolate(folder, settings.without, hand_over)
    control.close()
    standing += ["namespaces"] if job.isolated else []
    report = _Report(_REPORT)
    report.write({"walls": standing, "landlock": abi})
    if set(spec["required"]) - set(standing):
        os._exit(NOT_RUN)
    sys.setrecursionlimit(20_000)
    module = types.ModuleType("__main__")
    space = module.__dict__
    space.update(prelude)
    sys.modules["__main__"] = module
    del sys.argv[1:]
    forbid = _no_hook if "hook" in settings.without else audit.forbid
    forbid(folder)
    code = compile(spec["code"], "<answer>", "exec")
    if "steps" in spec:
        exec(code, space)
        _test(spec, space, report)
    _print(code, space)


def _no_hook(folder: str) -> None:
    """For tests: the kernel's walls alone."""


def _take(job: Job) -> socket.socket:
    """Put the descriptors where they belong and close all others."""
    # Above all that is to be overwritten, and out of each other's way.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (*job.given, job.control.fileno())]
    program_input, description, output, report, control = high
    null = os.open(os.devnull, os.O_WRONLY)
    for fd, number in ((program_input, 0), (output, 1), (null, 2), (report, _REPORT)):
        os.dup2(fd, number)
    os.dup2(description, _KEPT, inheritable=False)
    kept = os.dup2(control, _KEPT + 1, inheritable=False)
    os.closerange(kept + 1, 256)  # the server has opened few
    job.control.detach()
    return socket.socket(fileno=kept)


def _print(code: types.CodeType, space: dict[str, Any]) -> NoReturn:
    """Run a program for its output, and end as an interpreter does, but for its slow clean-up."""
    leave, printed = os._exit, sys.stdout
    try:
        exec(code, space)
    except SystemExit as error:
        if error.code not in (None, 0, False):
            leave(1)
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    for _ in range(2):
        for stream in (sys.stdout, printed):
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        space.clear()  # files that the program left open are written
        gc.collect()
    leave(0)


class _Report:
    """What a program's values are written to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, message: object) -> None:
        line = values.dumps(message)
        while line:
            line = line[os.write(self.fd, line) :]


def _test(spec: dict[str, Any], space: dict[str, Any], report: _Report) -> NoReturn:
    """Take the steps of the tests; the runner judges, and kills at the first that fails."""
    leave = os._exit
    if spec["entry_point"]:
        space["candidate"] = eval(spec["entry_point"], space)
    for inside, is_condition in spec["steps"]:
        if is_condition:
            report.write([_valued(expression, space) for expression in inside])
        else:
            exec(compile(inside[0], "<test>", "exec"), space)
            report.write(spec["token"])
    leave(0)


def _valued(expression: str, space: dict[str, Any]) -> Any:
    """The description of an expression's value in a list, or null when it raised."""
    try:
        return [values.encode(eval(compile(expression, "<test>", "eval"), space))]
    except BaseException:  # whatever the program raised, it is no value
        return None


def main() -> None:
    """Serve, and in each fork run its program."""
    settings = Settings(**json.loads(sys.argv[3]))
    sys.dont_write_bytecode = True
    prelude: dict[str, object] = {}
    exec(compile(_PRELUDE, "<prelude>", "exec"), prelude)
    gc.freeze()  # what a fork does not touch it shares
    job = start(socket.socket(fileno=int(sys.argv[2])), settings)
    try:
        run(job, settings, prelude)
    except BaseException:
        os._exit(1)  # of an exception, only that it happened counts


if __name__ == "__main__":
    main()
