"""Namespaces: no network, no other processes, no System V IPC, and files of bounded size in memory.

All or nothing: where user namespaces are switched off (many containers) and the process is not
root, there are none, and the other walls must do.
"""

import ctypes
import os

from .landlock import readable

_USER, _OTHERS = 0x10000000, 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
_PRIVATE, _REC = 1 << 18, 1 << 14
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_DETACH = 2
INSIDE = 1000  # the user's and group's number inside, whoever runs it


def _call(name: str, *args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def enter() -> None:
    """New user, mount, PID (for children), network, IPC and UTS namespaces; OSError if refused."""
    uid, gid = os.getuid(), os.getgid()
    try:
        _call("unshare", _USER | _OTHERS)
    except OSError:
        _call("unshare", _OTHERS)  # as root
    else:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{INSIDE} {uid} 1"),
            ("gid_map", f"{INSIDE} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    _call("mount", b"none", b"/", None, _REC | _PRIVATE, None)


def _needed() -> list[str]:
    return [os.path.join(os.path.realpath(path), "") for path in readable()]


def hide() -> None:
    """Cover the folders of the root that Python does not need: not even names are seen there."""
    needed = {path.split("/")[1] for path in (*_needed(), *readable())} | {"dev", "proc"}
    for entry in os.scandir("/"):
        if entry.is_dir(follow_symlinks=False) and entry.name not in needed:
            _call("mount", b"none", entry.path.encode(), b"tmpfs", _NOSUID | _NODEV, b"size=4k")


def scratch() -> str:
    """A folder to mount files in memory on: one that Python itself does not need."""
    needed = _needed()
    for path in ("/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/home"):
        real = os.path.join(os.path.realpath(path), "")
        if os.path.isdir(real) and not any(n.startswith(real) for n in needed):
            return path
    raise FileNotFoundError("no folder to mount on")


def mount(folder: str, megabytes: int, files: int) -> None:
    """Mount an empty file system in memory on a folder, for this namespace only."""
    options = f"size={megabytes}m,nr_inodes={files},mode=700".encode()
    flags = _NOSUID | _NODEV | _NOEXEC
    _call("mount", b"none", folder.encode(), b"tmpfs", flags, options)


def unmount(folder: str) -> None:
    """Take the file system away, with all that it holds."""
    _call("umount2", folder.encode(), _DETACH)


def drop_capabilities() -> None:
    """Give up every capability of this process, as root and inside a user namespace alike."""
    _call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
