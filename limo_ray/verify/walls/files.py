"""The folder of a program where no file system of its own can be mounted: measured and removed."""

import contextlib
import os
import stat

_DEEPEST = 40  # levels of folders; the C library's calls reach no further than 4096 characters


def remove(folder: str) -> None:
    """Remove a folder with all that is in it. Never raises, whatever is in it.

    Deep nests are taken apart from above: what lies in a subfolder is moved up, so that no path
    grows long and nothing recurses. Nobody else may be writing there.
    """
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(top)
        finally:
            os.close(top)
            os.rmdir(folder)


def _empty(top: int) -> None:
    number = 0
    names = os.listdir(top)
    while names:
        name = names.pop()
        if not _is_folder(name, top):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=top)
            continue
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700, dir_fd=top)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                for child in os.listdir(fd):
                    if not _is_folder(child, fd):
                        os.unlink(child, dir_fd=fd)
                        continue
                    # A folder can be moved by who may write in it, for its ".." changes.
                    os.chmod(child, 0o700, dir_fd=fd)
                    number += 1
                    moved = f"{number}~"
                    while _exists(moved, top):
                        moved += "~"
                    os.rename(child, moved, src_dir_fd=fd, dst_dir_fd=top)
                    names.append(moved)
            finally:
                os.close(fd)
            os.rmdir(name, dir_fd=top)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def too_much(folder: str, process: int, megabytes: int, files: int) -> bool:
    """Whether a program holds more than it may: in its folder, and in files it has unlinked."""
    left = megabytes * 2**20
    waiting = [(folder, 0)]
    while waiting:
        path, depth = waiting.pop()
        if depth > _DEEPEST:
            return True
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    files -= 1
                    status = entry.stat(follow_symlinks=False)
                    left -= status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append((entry.path, depth + 1))
                    if files < 0 or left < 0:
                        return True
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # removed meanwhile, or a folder that its owner cannot enter either
        except OSError:
            return True
    return left < _unlinked(process)


def _unlinked(process: int) -> int:
    """Bytes of files without a name that a process holds open or has mapped (Linux)."""
    total = 0
    folder = f"/proc/{process}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                status = os.stat(f"{folder}/{name}")
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                    total += status.st_blocks * 512
        with open(f"/proc/{process}/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                if line.endswith(" (deleted)\n"):
                    first, last = line.split(" ", 1)[0].split("-")
                    total += int(last, 16) - int(first, 16)
    return total
