"""Landlock: the kernel refuses files outside of a list (Linux 5.13 and later)."""

import ctypes
import os
import struct
import sys

from .seccomp import Unsupported

_WRITE, _READ, _LIST, _TRUNCATE, _IOCTL = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_FIRST = (1 << 13) - 1  # the rights of the first version
# Execute; make a character device, a socket, a FIFO, a block device, a symbolic link.
_NEVER = 1 << 0 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_CREATE, _ADD, _RESTRICT = 444, 445, 446


def version() -> int:
    """The version of Landlock that this kernel has, 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, 1)))


def readable() -> set[str]:
    """What Python needs to import its standard library, and the C library to find the time."""
    prefix, standard = sys.base_prefix, os.path.dirname(os.__file__)
    paths = {f"{prefix}/lib", f"{prefix}/lib64", standard, "/usr/lib", "/usr/lib64", "/lib"}
    paths |= {"/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache"}
    return paths | {"/dev/urandom", "/nix/store"}


def raise_wall(folder: str) -> None:
    """Read from now on only what Python itself needs, write only in `folder`, execute nothing.

    From version 4 no TCP; from 5 no device ioctl; from 6 no signals and no abstract sockets out.
    PR_SET_NO_NEW_PRIVS must be set.

    Raises:
        Unsupported: without Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*args: object) -> int:
        done = int(libc.syscall(*args))
        if done < 0:
            raise Unsupported(ctypes.get_errno(), "Landlock: " + os.strerror(ctypes.get_errno()))
        return done

    abi = version()
    if abi < 1:
        raise Unsupported(0, "Landlock: not in this kernel")
    handled = _FIRST | (1 << 13 if abi >= 2 else 0)  # to link or rename between folders
    handled |= (_TRUNCATE if abi >= 3 else 0) | (_IOCTL if abi >= 5 else 0)
    attribute = struct.pack("@Q", handled)
    attribute += struct.pack("@Q", 3) if abi >= 4 else b""
    attribute += struct.pack("@Q", 3) if abi >= 6 else b""
    rules = call(_CREATE, attribute, ctypes.c_size_t(len(attribute)), 0)
    paths = [(path, _READ | _LIST) for path in sorted(readable())]
    for path, rights in [*paths, (folder, handled & ~_NEVER), ("/dev/null", _READ | _WRITE)]:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # what is not there, or may not be reached, needs no right
        if not os.path.isdir(path):
            rights &= _WRITE | _READ | _TRUNCATE
        call(_ADD, rules, 1, struct.pack("=Qi", rights, fd), 0)
        os.close(fd)
    call(_RESTRICT, rules, 0)
    os.close(rules)
