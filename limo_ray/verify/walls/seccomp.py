"""seccomp: the kernel refuses every system call that is not on a list (Linux, x86_64 and aarch64).

What is refused fails with EPERM, so that a program gets a PermissionError. Calls that the list is
too old to know fail with ENOSYS, on which the C library falls back to older ones.
"""

import ctypes
import fcntl
import os
import platform
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

# Name: (number on x86_64, number on aarch64). No call here names another process, opens a socket,
# starts a program, or changes the mode, times, links or locks of a file (Landlock does not see
# those), or reserves memory that RLIMIT_AS does not count.
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "open": (2, None),
    "openat": (257, 56),
    "creat": (85, None),
    "close": (3, 57),
    "close_range": (436, 436),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "lseek": (8, 62),
    "ftruncate": (77, 46),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "select": (23, None),
    "pselect6": (270, 72),
    "poll": (7, None),
    "ppoll": (271, 73),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "umask": (95, 166),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "rseq": (334, 293),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "sched_yield": (24, 124),
    "getcpu": (309, 168),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "pause": (34, None),
    "alarm": (37, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "wait4": (61, 260),
    "uname": (63, 160),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getrandom": (318, 278),
}
_FAKED = ((74, 82), (75, 83))  # fsync, fdatasync: a call that says "done" and costs no disk

# Calls that are allowed for some values of their arguments.
_MMAP, _CLONE, _FCNTL = (9, 222), (56, 220), (72, 25)
_IOCTL, _PRCTL, _PRLIMIT, _AFFINITY = (16, 29), (157, 167), (302, 261), (204, 123)
_UNKNOWN = 424  # the first number of the calls that are newer than glibc 2.29: ENOSYS

# The flags of a thread, by glibc and by musl; everything else is a process or a namespace.
_THREAD = (0x3D0F00, 0x7D0F00)
_FCNTLS = (0, 1, 2, 3, 1030, 1032)  # DUPFD, GETFD, SETFD, GETFL, DUPFD_CLOEXEC, GETPIPE_SZ
_SETFL, _ASYNC = 4, 0o20000  # F_SETFL but for O_ASYNC, which sends signals
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_NAMES = (15, 16)  # PR_SET_NAME, PR_GET_NAME
_HUGETLB = 0x40000  # memory from a pool that all processes share

_ALLOW, _EPERM, _ENOSYS, _DONE, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x00050000, 0x80000000
_NOTIFY = 0x7FC00000
_LOAD, _EQUAL, _ABOVE, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_Line = tuple[int, int, int, int]  # code, jump if true, jump if false, value


class Unsupported(OSError):
    """The kernel, or this machine's kind of processor, has not got this wall."""


def _argument(index: int, high: bool = False) -> _Line:
    # The data of a filter: nr at 0, arch at 4, instruction pointer at 8, arguments from 16.
    little = 0 if sys.byteorder == "little" else 4
    return (_LOAD, 0, 0, 16 + 8 * index + (4 - little if high else little))


def _one_of(argument: int, values: tuple[int, ...]) -> list[_Line]:
    """Allow when the low half of an argument is one of the values, else refuse."""
    lines = [_argument(argument)]
    for value in values:
        lines += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*lines, (_RETURN, 0, 0, _EPERM)]


def _special(which: int) -> list[tuple[int, list[_Line]]]:
    """The calls that depend on their arguments, with what decides them."""
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)
    # F_SETFL without O_ASYNC is allowed; other commands go on to the list.
    setfl = [_argument(1), (_EQUAL, 0, 4, _SETFL), _argument(2), (_BITS, 1, 0, _ASYNC)]
    setfl += [allow, refuse]
    own_limits: list[_Line] = []  # prlimit64(0, any, NULL, any)
    for line in (_argument(0), _argument(2), _argument(2, high=True)):
        own_limits += [line, (_EQUAL, 1, 0, 0), refuse]
    return [
        (_MMAP[which], [_argument(3), (_BITS, 0, 1, _HUGETLB), refuse, allow]),
        (_CLONE[which], _one_of(0, _THREAD)),
        (_FCNTL[which], setfl + _one_of(1, _FCNTLS)),
        (_IOCTL[which], _one_of(1, _IOCTLS)),
        (_PRCTL[which], _one_of(0, _NAMES)),
        (_PRLIMIT[which], [*own_limits, allow]),
        (_AFFINITY[which], _one_of(0, (0,))),
    ]


def _start(machine: str) -> list[_Line]:
    """What every filter begins with: another machine's calls end the process; load the number."""
    arch = _ARCH[machine][1]
    return [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]


def program(machine: str) -> list[_Line]:
    """The filter's lines for a machine ("x86_64", "aarch64")."""
    which = _ARCH[machine][0]
    lines = _start(machine)
    for numbers in _ALLOWED.values():
        if (number := numbers[which]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number, decision in _special(which):
        lines += [(_EQUAL, 0, len(decision), number), *decision]
    for pair in _FAKED:
        lines += [(_EQUAL, 0, 1, pair[which]), (_RETURN, 0, 0, _DONE)]
    # x86_64's second set of calls (x32) lies above 0x40000000.
    lines += [(_ABOVE, 0, 1, 0x40000000), (_RETURN, 0, 0, _EPERM)]
    lines += [(_ABOVE, 0, 1, _UNKNOWN), (_RETURN, 0, 0, _ENOSYS)]
    return [*lines, (_RETURN, 0, 0, _EPERM)]


def _install(lines: list[_Line], flags: int) -> int:
    """Put a filter on this thread; its listener's descriptor where the flags ask for one."""
    machine = platform.machine()
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in lines))
    filter_ = struct.pack("@HxxxxxxQ", len(lines), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(_SECCOMP[machine], 1, flags, filter_)  # SECCOMP_SET_MODE_FILTER
    if done < 0:
        raise Unsupported(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
    return int(done)


def raise_wall(hand_over: Callable[[int], None]) -> None:
    """Refuse from now on all but the list, in this thread and those that it starts.

    New threads wait until the holder of a descriptor allows each (`receive`, `reply`). `hand_over`
    is called with it before sending it becomes impossible. PR_SET_NO_NEW_PRIVS must be set.

    Raises:
        Unsupported: without seccomp, or on another kind of machine.
    """
    machine = platform.machine()
    if machine not in _ARCH:
        raise Unsupported(0, f"seccomp: no list of system calls for {machine}")
    asks = [(_EQUAL, 0, 1, _CLONE[_ARCH[machine][0]]), (_RETURN, 0, 0, _NOTIFY)]
    listener = _install([*_start(machine), *asks, (_RETURN, 0, 0, _ALLOW)], 1 << 3)
    hand_over(listener)
    os.close(listener)
    _install(program(machine), 0)


class Notice(NamedTuple):
    """A thread that waits for permission to start another."""

    id: int
    thread: int


def receive(listener: int) -> Notice:
    """The next notice; OSError when the thread that waited is gone."""
    buffer = bytearray(80)
    fcntl.ioctl(listener, 0xC0502100, buffer)  # SECCOMP_IOCTL_NOTIF_RECV
    return Notice(*struct.unpack_from("@QI", buffer))


def reply(listener: int, notice: Notice, allowed: bool) -> None:
    """Let the thread's call go on, or fail with EAGAIN; OSError when the thread is gone."""
    error, flags = (0, 1) if allowed else (-11, 0)
    answer = bytearray(struct.pack("@Qqii", notice.id, 0, error, flags))
    fcntl.ioctl(listener, 0xC0182101, answer)  # SECCOMP_IOCTL_NOTIF_SEND
