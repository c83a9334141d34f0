"""Local files and folders that survive a crash of the machine.

A file that is renamed when it is finished is there whole or not at all for other processes, but
not after a crash: its content may not have reached the disk, or its name. So the file is synced
before it is renamed, and its folder after that.
"""

import contextlib
import ctypes
import errno
import os
import shutil
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux' fcntl.h and fs.h
NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # what file systems answer that cannot sync a folder


def publish(finished: str, path: str) -> None:
    """Gives a finished file its name, replacing what has it, and returns when both are on disk.

    Args:
        finished: a file in the folder of `path`.
    """
    _sync(finished)
    os.replace(finished, path)
    sync_folder(os.path.dirname(path))


def publish_folder(finished: Path, path: Path) -> None:
    """The same for a folder and all that is in it, by one process at a time.

    Where the two can change places in one step, the name is there at every moment. Elsewhere a
    folder that has the name is moved aside first: for a moment, or after a crash in it, there is
    none, but never one with files of both.
    """
    for folder, _, files in os.walk(finished):
        for name in files:
            _sync(os.path.join(folder, name))
        sync_folder(folder)
    old = finished
    if not exchange(finished, path):
        old = path.with_name(f"{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)  # of a publication that was killed
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, old)
        os.replace(finished, path)
    sync_folder(str(path.parent))
    shutil.rmtree(old, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step; False where one is missing or it cannot be done.

    Linux' renameat2 does it on ext4, xfs, btrfs and tmpfs, not on NFS.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def make_folder(path: str) -> None:
    """Creates a folder and its parents where they do not exist."""
    missing = []
    folder = path
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
        except FileExistsError:  # another process was faster; or it is a file
            if not os.path.isdir(folder):
                raise
        sync_folder(os.path.dirname(folder))


def sync_folder(path: str) -> None:
    """Returns when the names in a folder are on disk, where the file system can promise that."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
