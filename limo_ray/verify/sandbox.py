"""Walls around code that a model wrote. Run as a script, it is the process that runs such code.

Two kinds of walls. The kernel's, each where it allows it without privileges: its own network and
user namespaces, Landlock (files), seccomp (no processes, sockets, signals), limits of memory, time,
file size. And Python's audit hook, which refuses the same everywhere, macOS too, and says what it
refused. Needs the standard library only: it is started with `python -I -S`.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys

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

_REFUSED = (
    "ctypes.",
    "ftplib.",
    "gc.get_",
    "http.",
    "imaplib.",
    "mmap.",
    "os.chmod",
    "os.chown",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.posix_spawn",
    "os.setxattr",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.",
    "resource.",
    "shutil.chown",
    "signal.pthread_kill",
    "smtplib.",
    "socket.",
    "subprocess.",
    "syslog.",
    "urllib.",
    "webbrowser.",
)
_PATHS = {  # events that name a path to be changed
    "os.link": (0, 1),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (0, 1),
    "os.truncate": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def forbid(folder: str | None) -> None:
    """Refuse from now on, in this process, sockets, processes, and writing outside `folder`."""
    home = None if folder is None else os.path.join(os.path.realpath(folder), "")

    def inside(path: object) -> bool:
        if home is None or not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.join(os.path.realpath(os.fsdecode(path)), "").startswith(home)

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, _mode, flags = args
            writes = isinstance(flags, int) and flags & _WRITES
            if writes and path != os.devnull and not isinstance(path, int) and not inside(path):
                raise PermissionError(f"not allowed here: open {path!r} for writing")
        elif event in _PATHS:
            if not all(inside(args[i]) for i in _PATHS[event]):
                raise PermissionError(f"not allowed here: {event}")
        elif event.startswith(_REFUSED):
            raise PermissionError(f"not allowed here: {event}")

    sys.addaudithook(hook)


def limit(seconds: int, memory_mb: int, file_mb: int) -> None:
    """Limits of CPU seconds, address space, file size, open files, processes; no core file."""
    limits = [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory_mb * 2**20),
        (resource.RLIMIT_FSIZE, file_mb * 2**20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ]
    for which, value in limits:
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(which, (value, value))


def isolate(folder: str) -> None:
    """Put up the kernel's walls, each where it allows it: namespaces, Landlock, seccomp."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    # New user, network and IPC namespaces; where user namespaces are switched off, what root may.
    if libc.unshare(0x10000000 | 0x40000000 | 0x08000000) != 0:
        libc.unshare(0x40000000)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, which the next two need
    _landlock(libc, folder)
    _seccomp(libc)


def _landlock(libc: ctypes.CDLL, folder: str) -> None:
    """Read only what Python itself needs, write only in `folder`, execute nothing."""
    version = libc.syscall(444, None, 0, 1)
    if version < 1:
        return
    # Rights of the first version, then REFER, TRUNCATE; 2 WRITE_FILE, 4 READ_FILE, 8 READ_DIR.
    handled = (1 << 13) - 1
    handled |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    attribute = struct.pack("<QQ", handled, 3 if version >= 4 else 0)  # no TCP bind, connect
    rules = libc.syscall(444, attribute, len(attribute) if version >= 4 else 8, 0)
    if rules < 0:
        return
    reading = {sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"}
    reading |= {"/dev/urandom", os.path.dirname(os.__file__)}
    for path, rights in [*((p, 4 | 8) for p in reading), (folder, handled & ~1), ("/dev/null", 6)]:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if not os.path.isdir(path):
            rights &= 2 | 4 | 1 << 14
        libc.syscall(445, rules, 1, struct.pack("<Qi", rights, fd), 0)
        os.close(fd)
    libc.syscall(446, rules, 0)
    os.close(rules)


# System calls that a program for a problem never needs, by machine: x86_64, aarch64.
_CALLS = {
    "x86_64": (
        0xC000003E,
        56,
        435,
        # socket, socketpair, ptrace, fork, vfork, execve, kill, tkill, tgkill, execveat, mount,
        # unshare, setns, prlimit64, pidfd_send_signal, io_uring_setup, process_vm_writev, bpf,
        # keyctl
        (41, 53, 101, 57, 58, 59, 62, 200, 234, 322, 165, 272, 308, 302, 424, 425, 311, 321, 250),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        435,
        (198, 199, 117, 221, 129, 130, 131, 281, 40, 97, 268, 261, 424, 425, 271, 280, 219),
    ),
}


def _seccomp(libc: ctypes.CDLL) -> None:
    """Refuse (EPERM) new processes, sockets, signals and the like; threads stay allowed."""
    known = _CALLS.get(os.uname().machine)
    if known is None:
        return
    arch, clone, clone3, calls = known
    allow, refuse, missing = 0x7FFF0000, 0x00050001, 0x00050026  # EPERM, ENOSYS
    load, equal, above, bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    # Each line: code, jump if true, jump if false, value. The data: nr at 0, arch at 4, args at 16.
    program = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, refuse), (load, 0, 0, 0)]
    program += [(above, 0, 1, 0x40000000), (give, 0, 0, refuse)]  # x86_64's second set of calls
    program += [(equal, 0, 1, clone3), (give, 0, 0, missing)]
    for call in calls:
        program += [(equal, 0, 1, call), (give, 0, 0, refuse)]
    # A clone with CLONE_THREAD is a thread.
    program += [(equal, 0, 3, clone), (load, 0, 0, 16), (bits, 1, 0, 0x10000), (give, 0, 0, refuse)]
    program += [(give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))
    filter_ = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))
    libc.prctl(22, 2, filter_, 0, 0)


def main() -> None:
    """Run the program described on standard input, in the current folder.

    The description is JSON after 4 bytes of length; what follows it is the program's own input.
    Its keys: code, tests (list of statements), entry_point (expression or
    null), seconds, memory_mb, file_mb, token. After the last test the token goes to standard error:
    a program that ends early, however politely, has not passed.
    """
    size, description = struct.unpack(">I", os.read(0, 4))[0], b""
    while len(description) < size:
        description += os.read(0, size - len(description))
    spec = json.loads(description)
    folder = os.getcwd()
    die_with_parent()
    sys.dont_write_bytecode = True
    sys.setrecursionlimit(20_000)
    limit(spec["seconds"], spec["memory_mb"], spec["file_mb"])
    space: dict[str, object] = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(_PRELUDE, "<prelude>", "exec"), space)
    isolate(folder)
    forbid(folder)
    report = sys.stderr
    exec(compile(spec["code"], "<answer>", "exec"), space)
    if spec["entry_point"]:
        space["candidate"] = eval(spec["entry_point"], space)
    for test in spec["tests"]:
        exec(compile(test, "<test>", "exec"), space)
    report.write("\n" + spec["token"])
    report.flush()


if __name__ == "__main__":
    main()
