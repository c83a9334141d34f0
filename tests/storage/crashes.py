"""A model of a machine that crashes: what may be on its disk afterwards, at every moment.

    with Recorder(folder) as recorder:
        ...                             # writes files in the folder, and says what is promised:
        recorder.promise("a is written")
    for crash in recorder.crashes():
        crash.restore(other)            # a folder as it may be found when the machine is up again
        check(other, crash.promises)    # what was promised before the crash must be there

A disk keeps what was synced. Of the rest any share may be lost: the content of a file that was not
synced (it is empty then), and each change of names in a folder since the folder was synced. A
rename within a folder is one change, and so are two names that are exchanged.
"""

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from limo_ray.storage import durable
from limo_ray.storage.store import Store

MOST = 6  # changes of which every subset is tried; of more a sample is


@dataclass(frozen=True)
class Crash:
    """A disk after a crash: content by path (None is a folder), and what was promised before."""

    files: dict[str, bytes | None]
    promises: list[Any]
    after: str

    def restore(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path, content in sorted(self.files.items()):
            if content is None:
                (folder / path).mkdir()
            else:
                (folder / path).write_bytes(content)


@dataclass
class File:
    content: bytes
    synced: bool = False


@dataclass
class Folder:
    names: dict[str, "File | Folder"] = field(default_factory=dict)
    on_disk: dict[str, "File | Folder"] = field(default_factory=dict)
    changes: list[dict[str, "File | Folder | None"]] = field(default_factory=list)

    def change(self, change: dict[str, "File | Folder | None"]) -> None:
        """Since the last sync; None deletes a name."""
        self.changes.append(change)
        _apply(self.names, change)

    def sync(self) -> None:
        self.on_disk, self.changes = dict(self.names), []


def _apply(names: dict[str, Any], change: dict[str, Any]) -> None:
    for name, node in change.items():
        names.pop(name, None)
        if node is not None:
            names[name] = node


class Recorder:
    """Records what happens to the files of a folder, and what is promised, in their order.

    Args:
        lost: kinds of syncs that are not recorded, "file" or "folder": a program that forgets
            them.
    """

    def __init__(self, folder: Path, lost: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.lost = lost
        self.operations: list[tuple[str, Any, Any]] = []
        self._known: set[str] = set()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        fsync, replace, mkdir = os.fsync, os.replace, os.mkdir
        rmtree, delete, exchange = shutil.rmtree, Store.delete, durable.exchange

        def record_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = self._inside(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path is None:
                return
            if (self.folder / path).is_dir():
                self._record("sync folder", path, None)
            else:
                self._discover(path)
                self._record("sync file", path, None)

        def record_replace(source: Any, target: Any) -> None:
            if (path := self._inside(source)) is not None:
                self._discover(path)
            replace(source, target)
            if path is not None:
                self._known.discard(path)
                self._record("rename", path, self._inside(target))

        def record_exchange(source: Any, target: Any) -> bool:
            done = exchange(source, target)
            if done and (path := self._inside(source)) is not None:
                self._record("exchange", path, self._inside(target))
            return done

        def record_mkdir(path: Any, *rest: Any, **named: Any) -> None:
            mkdir(path, *rest, **named)
            if (inside := self._inside(path)) is not None:
                self._record("make folder", inside, None)

        def record_delete(store: Store, name: str) -> None:
            path = self._inside(store.path(name))
            existed = path is not None and (self.folder / path).exists()
            delete(store, name)
            if existed:
                self._record("delete", path, None)

        def record_rmtree(tree: Any, *rest: Any, **named: Any) -> None:
            inside = sorted(Path(tree).rglob("*"), reverse=True)
            gone = [self._inside(path) for path in [*inside, tree] if Path(path).exists()]
            rmtree(tree, *rest, **named)
            for path in filter(None, gone):
                self._record("delete", path, None)

        self._patch.setattr(shutil, "rmtree", record_rmtree)
        for function in (record_fsync, record_replace, record_mkdir):
            self._patch.setattr(os, function.__name__.removeprefix("record_"), function)
        self._patch.setattr(Store, "delete", record_delete)
        self._patch.setattr(durable, "exchange", record_exchange)
        return self

    def __exit__(self, *exc: object) -> None:
        self._patch.undo()

    def promise(self, promise: Any) -> None:
        """What was written so far must survive."""
        self._record("promise", promise, None)

    def _inside(self, path: Any) -> str | None:
        try:
            return str(Path(path).relative_to(self.folder))
        except ValueError:
            return None

    def _record(self, kind: str, what: Any, more: Any) -> None:
        self.operations.append((kind, what, more))

    def _discover(self, path: str) -> None:
        """A file that is finished: what happened to it before is its creation."""
        if path not in self._known and (self.folder / path).is_file():
            self._known.add(path)
            self._record("create", path, (self.folder / path).read_bytes())

    def crashes(self) -> Iterator[Crash]:
        """Every disk that a crash after any operation may leave, each once."""
        root = Folder()
        promises: list[Any] = []
        seen: set[int] = set()
        for kind, what, more in self.operations:
            self._replay(root, promises, kind, what, more)
            for files in _disks(root):
                key = hash((tuple(sorted(files.items())), len(promises)))
                if key not in seen:
                    seen.add(key)
                    yield Crash(files, list(promises), f"{kind} {what}")
        assert _tree(root, lambda folder: folder.names) == {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in self.folder.rglob("*")
        }, "something happened that was not recorded"

    def _replay(self, root: Folder, promises: list[Any], kind: str, what: Any, more: Any) -> None:
        if kind == "promise":
            promises.append(what)
            return
        if kind == "sync folder":
            if "folder" not in self.lost:
                _find(root, what).sync()
            return
        folder, name = _find(root, os.path.dirname(what)), os.path.basename(what)
        if kind == "create":
            folder.change({name: File(more)})
        elif kind == "make folder":
            folder.change({name: Folder()})
        elif kind == "delete":
            folder.change({name: None})
        elif kind == "rename":
            assert os.path.dirname(what) == os.path.dirname(more)
            folder.change({name: None, os.path.basename(more): folder.names[name]})
        elif kind == "exchange":
            other = os.path.basename(more)
            folder.change({name: folder.names[other], other: folder.names[name]})
        elif kind == "sync file" and "file" not in self.lost:
            file = folder.names[name]
            assert isinstance(file, File)
            file.synced = True


def _find(root: Folder, path: str) -> Folder:
    for name in Path(path).parts:
        found = root.names[name]
        assert isinstance(found, Folder)
        root = found
    return root


def _folders(root: Folder) -> Iterator[Folder]:
    yield root
    for node in [*root.names.values(), *root.on_disk.values()]:
        if isinstance(node, Folder):
            yield from _folders(node)


def _tree(
    root: Folder, names: Callable[[Folder], dict[str, Any]], emptied: bool = False
) -> dict[str, bytes | None]:
    """Content by path; with `emptied` that of files that were not synced is lost."""
    found: dict[str, bytes | None] = {}
    for name, node in names(root).items():
        if isinstance(node, File):
            found[name] = b"" if emptied and not node.synced else node.content
        else:
            found[name] = None
            inside = _tree(node, names, emptied)
            found |= {f"{name}/{path}": content for path, content in inside.items()}
    return found


def _disks(root: Folder) -> Iterator[dict[str, bytes | None]]:
    """What the disk may hold now."""
    folders = {id(folder): folder for folder in _folders(root)}
    changes = [(key, n) for key, folder in folders.items() for n in range(len(folder.changes))]
    for chosen in _subsets(changes):

        def on_disk(folder: Folder, chosen: frozenset[Any] = chosen) -> dict[str, Any]:
            names = dict(folder.on_disk)
            for number, change in enumerate(folder.changes):
                if (id(folder), number) in chosen:
                    _apply(names, change)
            return names

        yield _tree(root, on_disk)
        yield _tree(root, on_disk, emptied=True)


def _subsets(changes: list[Any]) -> Iterator[frozenset[Any]]:
    if len(changes) <= MOST:
        for count in range(len(changes) + 1):
            yield from map(frozenset, itertools.combinations(changes, count))
        return
    for one in changes:
        yield frozenset([one])
        yield frozenset(changes) - {one}
    for count in range(len(changes) + 1):  # the disk may also keep the order
        yield frozenset(changes[:count])
    rng = random.Random(len(changes))
    for _ in range(2**MOST):
        yield frozenset(each for each in changes if rng.random() < 0.5)
