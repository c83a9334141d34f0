"""Small parts of an attempt log made into large ones, at any time, by anybody.

A log written every few seconds by hundreds of samplers would be millions of files. Each writer
merges its own parts as it goes; what killed writers left is merged when a job starts (`compact`).
Neither can lose a row, whoever else merges the same parts at once: a merged part is published
before the parts in it are deleted, and its metadata names them, so that readers pass by those that
are still there. A part that is gone was merged by somebody else.
"""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.attempts.parts import MERGED_FROM, Broken, Gone, read, read_all
from limo_ray.core.records import ATTEMPT
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

FEW = 16  # parts that are not worth a merge
LARGE = 8 * 2**20  # bytes from which a part stays as it is
MERGED = 64 * 2**20  # bytes of parts that become one
GROUP = 32 * 2**20  # bytes of attempts held in memory at once: a row group
_MADE = re.compile(r"-m[0-9a-f]{8}$")


def merge(store: Store, folder: str, names: list[str], target: str, *, whole: bool = False) -> int:
    """Writes parts as one and deletes them; returns its size in bytes.

    Parts that are gone are passed by, or, with `whole`, end the merge: FileNotFoundError. Without
    any left nothing is written and the size is 0.

    Raises:
        OSError: the store does not answer; then nothing is deleted.
        ValueError, pa.ArrowException: a part is not sound; then nothing is deleted.
    """
    sources = _Sources()
    tables = _row_groups(store, folder, names, whole, sources)
    first = next(tables, None)
    if first is None:
        return 0

    def metadata() -> dict[bytes, str]:
        if sources.merged:  # some of those may be there still: a merge that was killed
            left = sources.merged.intersection(store.files(folder))
            sources.names += sorted(left.difference(sources.names))
        return {MERGED_FROM: json.dumps(sources.names)}

    size = store.write_tables(
        f"{folder}/{target}", ATTEMPT, itertools.chain([first], tables), metadata
    )
    _delete(store, folder, sources.names)
    return size


@dataclass(slots=True)
class _Sources:
    """What a merge has read so far."""

    names: list[str] = field(default_factory=list)
    merged: set[str] = field(default_factory=set)  # parts that these stand for


def _row_groups(
    store: Store, folder: str, names: list[str], whole: bool, sources: _Sources
) -> Iterator[pa.Table]:
    """The parts' attempts in tables of about GROUP bytes; fills `sources`."""

    def attempts(part: pq.ParquetFile) -> pa.Table:
        return part.read(ATTEMPT.names).cast(ATTEMPT)

    held: list[pa.Table] = []
    size = 0
    for name in names:
        part = read(store, f"{folder}/{name}", attempts, at_once=True)
        if isinstance(part, Broken):
            raise ValueError(f"{folder}/{name} is not readable: {part.reason}")
        if isinstance(part, Gone):
            if whole:
                raise FileNotFoundError(f"{folder}/{name}")
            continue
        assert part.content is not None
        sources.names.append(name)
        sources.merged.update(part.merged_from)
        held.append(part.content)
        size += part.content.nbytes
        if size >= GROUP:
            yield pa.concat_tables(held)
            held, size = [], 0
    if held:
        yield pa.concat_tables(held)


def _delete(store: Store, folder: str, names: Iterable[str]) -> None:
    """Deletes parts that another one stands for; one that stays is passed by by readers."""
    for name in names:
        try:
            store.delete(f"{folder}/{name}")
        except OSError as error:
            log.warning("%s was merged into another part but could not be deleted: %s", name, error)


def compact(store: Store, folder: str) -> int:
    """Merges neighbouring small parts of a log's folder; returns how many parts are gone by it.

    Neighbours by name, so that the order of all attempts stays as it was. The same parts make a
    part of the same name: two jobs that compact at once write one file twice, not two.
    """
    if not _groups(store, folder):
        return 0
    found, seen = read_all(store, folder, lambda part: part.metadata.num_rows)
    _delete(store, folder, seen.difference(found))  # merges that were cut off
    gone = 0
    for group in _groups(store, folder):
        stem = _MADE.sub("", group[0].removesuffix(".parquet"))
        made = hashlib.sha256("\n".join(group).encode()).hexdigest()[:8]
        try:
            merge(store, folder, group, f"{stem}-m{made}.parquet", whole=True)
        except FileNotFoundError:
            continue  # somebody else merges them now
        except (OSError, ValueError, pa.ArrowException) as error:
            log.warning("compaction skipped for %d parts: %s", len(group), error)
            continue
        gone += len(group) - 1
    if gone:
        log.info("attempt log: compacted %s parts", f"{gone + 1:,}")
    return gone


def _groups(store: Store, folder: str) -> list[list[str]]:
    return groups([(info.base_name, info.size or 0) for info in store.infos(folder)])


def groups(parts: list[tuple[str, int]]) -> list[list[str]]:
    """Which parts are worth merging: runs of more than FEW small ones, up to MERGED bytes each.

    Args:
        parts: (name, size in bytes), in the order of their names.
    """
    found: list[list[str]] = []
    run: list[str] = []
    size = 0
    for name, its in [*parts, ("", LARGE)]:
        if its >= LARGE or size + its > MERGED:
            if len(run) > FEW:
                found.append(run)
            run, size = [], 0
        if its < LARGE:
            run, size = [*run, name], size + its
    return found
