"""Python's audit hook: refuses in the interpreter what the kernel's walls refuse below it.

It says what it refused, and it is there on macOS too. It is a fence, no wall: who can change the
memory of the process (ctypes, a bug of the interpreter) can climb it.
"""

import os
import posix
import sys
from collections.abc import Callable


def forbid(folder: str | None) -> None:
    """Refuse from now on, in this process, sockets, processes, and writing outside `folder`.

    The hook can be neither removed nor changed: it holds all that it needs in its own variables,
    uses no name that a program can assign to, and cannot be reached from Python.
    """
    refused = (
        "cpython.PyInterpreterState_New",
        "ctypes.",
        "fcntl.",
        "ftplib.",
        "gc.get_",
        "http.",
        "imaplib.",
        "mmap.",
        "nntplib.",
        "os.chflags",
        "os.chmod",
        "os.chown",
        "os.exec",
        "os.fork",
        "os.kill",
        "os.link",
        "os.lockf",
        "os.posix_spawn",
        "os.removexattr",
        "os.setxattr",
        "os.spawn",
        "os.startfile",
        "os.symlink",
        "os.system",
        "poplib.",
        "pty.",
        "resource.",
        "shutil.chown",
        "signal.pthread_kill",
        "smtplib.",
        "socket.",
        "sqlite3.",
        "subprocess.",
        "sys._current_",
        "sys.setprofile",
        "sys.settrace",
        "syslog.",
        "telnetlib.",
        "urllib.",
        "webbrowser.",
    )
    # Events that name what is to be changed, with where their arguments are: paths, then dir_fds.
    changes = {
        "os.mkdir": ((0,), (2,)),
        "os.remove": ((0,), (1,)),
        "os.rename": ((0, 1), (2, 3)),
        "os.rmdir": ((0,), (1,)),
        "os.truncate": ((0,), ()),
        "os.utime": ((0,), (3,)),
        "shutil.rmtree": ((0,), (1,)),
    }
    # Modules of C code that change files, memory or processes without an event.
    modules = {"_curses", "_dbm", "_gdbm", "_posixshmem", "_posixsubprocess", "_testbuffer"}
    modules |= {"_testcapi", "_testinternalcapi", "_xxsubinterpreters", "posix", "readline"}
    inside = _inside(folder)
    within = _directory_within(folder)
    Refused, Missing = PermissionError, ImportError
    exact, text, integer, length = type, str, int, len
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    null, starts = os.devnull, str.startswith
    confined = folder is not None

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if exact(path) is integer:
                return
            if exact(flags) is integer and flags & writes:  # type: ignore[operator]
                if path != null and not inside(path):
                    raise Refused(f"not allowed here: open {path!r} for writing")
            elif mode is None and confined and not within(path):
                # `os.open` of a folder outside, which `dir_fd` could then write in.
                raise Refused(f"not allowed here: open {path!r}")
        elif event in changes:
            paths, folders = changes[event]
            for i in folders:
                if i < length(args) and args[i] not in (-1, None):
                    for j in paths:
                        name = args[j]
                        if exact(name) is not text or name in ("..", ".") or "/" in name:  # type: ignore[operator]
                            raise Refused(f"not allowed here: {event}")
                    return
            for j in paths:
                if exact(args[j]) is integer:  # a descriptor that is open already
                    continue
                if not inside(args[j]):
                    raise Refused(f"not allowed here: {event}")
        elif event == "import":
            if args[0] in modules:
                raise Missing(f"not allowed here: import {args[0]}")
        elif starts(event, refused):
            raise Refused(f"not allowed here: {event}")

    if confined:
        _disarm()
    sys.addaudithook(hook)


def _inside(folder: str | None) -> Callable[[object], bool]:
    """Whether a path, with its links followed, lies in the folder; no path does in no folder."""
    home = None if folder is None else os.path.join(os.path.realpath(folder), "")
    exact, text, octets = type, str, bytes
    readlink, getcwd, Error, starts = posix.readlink, posix.getcwd, OSError, str.startswith
    split, join = str.split, str.join

    def inside(path: object) -> bool:
        if home is None:
            return False
        if exact(path) is octets:
            path = octets.decode(path, "utf-8", "surrogateescape")  # type: ignore[arg-type]
        if exact(path) is not text:
            return False
        waiting = [name for name in split(path, "/") if name not in ("", ".")][::-1]  # type: ignore[arg-type]
        done = "" if starts(path, "/") else getcwd()  # type: ignore[arg-type]
        links = 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                done = join("/", split(done, "/")[:-1])
                continue
            here = f"{done}/{name}"
            try:
                target = readlink(here)
            except Error:
                done = here
                continue
            links += 1
            if links > 40:
                return False
            if starts(target, "/"):
                done = ""
            waiting += [part for part in split(target, "/") if part not in ("", ".")][::-1]
        return starts(done + "/", home)

    return inside


def _directory_within(folder: str | None) -> Callable[[object], bool]:
    """Whether a path is no directory, or one in the folder."""
    inside = _inside(folder)
    status, Error, kinds, folder_kind = posix.stat, OSError, 0o170000, 0o040000

    def within(path: object) -> bool:
        try:
            found = status(path)  # type: ignore[arg-type]
        except Error:
            return True
        return found.st_mode & kinds != folder_kind or inside(path)

    return within


def _disarm() -> None:
    """Replace the functions that act on the outside and raise no event."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("not allowed here")

    import _posixsubprocess

    _posixsubprocess.fork_exec = refuse  # type: ignore[assignment]
    names: tuple[str, ...] = (
        "mkfifo",
        "mknod",
        "setpriority",
        "nice",
        "sched_setaffinity",
        "sched_setparam",
    )
    names += ("sched_setscheduler", "setpgid", "setsid", "chroot", "memfd_create", "pidfd_open")
    names += ("posix_fallocate", "copy_file_range", "splice", "tcsetpgrp", "sync", "setpgrp")
    for name in names:
        for module in (os, posix):
            if hasattr(module, name):
                setattr(module, name, refuse)
