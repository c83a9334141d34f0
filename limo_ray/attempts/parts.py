"""The Parquet parts of an attempt log: read while other processes append, merge and delete them.

A part that stands for others names them in its metadata. So a reader leaves out parts that are
merged already but not deleted yet, and looks for the replacement of a part that vanishes.
"""

import json
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from limo_ray.core.records import ATTEMPT
from limo_ray.core.text import first_line
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

MERGED_FROM = b"limo_ray.merged_from"  # key in a part's metadata: names of the parts in it
UNREADABLE = (pa.ArrowException, OSError, ValueError)
AT_ONCE = 8 * 2**20  # bytes of a remote part that is fetched in one request
LOCAL_READERS, REMOTE_READERS = 4, 32  # parts read at once: remote ones mostly wait for the network


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part that was read."""

    content: T | None  # None where the reader knew all of its sources already
    merged_from: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """A part that is not there any more: it was merged into another one."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A part whose bytes are no sound Parquet file of attempts."""

    reason: str


OnBroken = Literal["set aside", "raise", "leave"]


def read(
    store: Store,
    name: str,
    extract: Callable[[pq.ParquetFile], T],
    *,
    known: Collection[str] = (),
    dictionaries: Sequence[str] = (),
    at_once: bool = False,
) -> Part[T] | Gone | Broken:
    """Reads one part.

    Args:
        name: of its file in the store.
        extract: takes from the open file what the caller wants of it.
        known: a set of part names; of a part merged from these alone nothing is extracted.
        dictionaries: columns that are read as dictionaries.
        at_once: fetch the whole file in one request, during which other threads run.

    Raises:
        OSError: the store does not answer; the part itself may be sound.
    """

    def extracted(source: Any, filesystem: pafs.FileSystem | None = None) -> Part[T]:
        with pq.ParquetFile(
            source, filesystem=filesystem, read_dictionary=list(dictionaries),
            page_checksum_verification=True,
        ) as file:  # fmt: skip
            sources = merged_from(file)
            wanted = not sources or not set(sources).issubset(known)
            return Part(extract(file) if wanted else None, sources)

    try:
        if at_once:
            return extracted(pa.BufferReader(store.read_bytes(name)))
        return extracted(store.path(name), store.filesystem)
    except FileNotFoundError:
        return Gone()
    except UNREADABLE as error:
        log.debug("%s is read again: %s", name, first_line(error))
    # A failing network, or damage? The file is damaged if its bytes arrive and are no sound part.
    try:
        content = store.read_bytes(name)
    except FileNotFoundError:
        return Gone()
    try:
        return extracted(pa.BufferReader(content))
    except UNREADABLE as error:
        return Broken(first_line(error))


def merged_from(part: pq.ParquetFile) -> tuple[str, ...]:
    """Names of the parts that a part stands for."""
    return tuple(json.loads((part.metadata.metadata or {}).get(MERGED_FROM, b"[]")))


def read_all(
    store: Store,
    folder: str,
    extract: Callable[[pq.ParquetFile], T],
    *,
    known: Collection[str] = (),
    dictionaries: Sequence[str] = (),
    on_broken: OnBroken = "set aside",
) -> tuple[dict[str, T], set[str]]:
    """Reads all parts of a log's folder, several at once.

    Args:
        extract: see `read`; called in threads, its results are all held in memory.
        known: names of parts to leave out, and with them parts merged from these alone.
        dictionaries: columns that are read as dictionaries.
        on_broken: see `visit`.

    Returns:
        What `extract` returned by part name, in the order of the names and without the parts that
        another one stands for; and all names seen.
    """
    known = frozenset(known)

    def read_file(file: pafs.FileInfo) -> Part[T] | Gone | Broken:
        at_once = not store.local and file.size <= AT_ONCE
        name = f"{folder}/{file.base_name}" if folder else file.base_name
        return read(
            store, name, extract, known=known, dictionaries=dictionaries, at_once=at_once
        )  # fmt: skip

    with ThreadPoolExecutor(LOCAL_READERS if store.local else REMOTE_READERS) as pool:
        found = visit(
            store, folder, lambda files: list(pool.map(read_file, files)), known, on_broken
        )
    merged = {source for part in found.values() if isinstance(part, Part)
              for source in part.merged_from}  # fmt: skip
    contents = {
        name: part.content
        for name, part in sorted(found.items())
        if isinstance(part, Part) and part.content is not None and name not in merged
    }
    return contents, set(found)


def visit(
    store: Store,
    folder: str,
    read_files: Callable[[list[pafs.FileInfo]], Sequence[Part[T] | Gone | Broken]],
    known: Collection[str] = (),
    on_broken: OnBroken = "set aside",
) -> dict[str, Part[T] | Broken]:
    """Reads all parts of a log's folder, those too that appear because others vanish.

    Args:
        read_files: reads some parts, in threads or in Ray tasks.
        known: names of parts to leave out.
        on_broken: what happens to a part that cannot be read. "set aside" moves it to `broken/`
            with a warning; "raise" does so too and raises OSError; "leave" only passes it by.

    Returns:
        The parts by name, without those that were set aside.
    """
    known = frozenset(known)
    found: dict[str, Part[T] | Broken] = {}
    missing: list[str] = []
    while files := [
        file
        for file in store.infos(folder)
        if file.base_name not in known and file.base_name not in found
    ]:
        before, missing = missing, []
        for file, part in zip(files, read_files(files), strict=True):
            if isinstance(part, Gone):
                missing.append(file.base_name)
            elif isinstance(part, Part) or on_broken == "leave":
                found[file.base_name] = part
            else:
                _set_aside(store, folder, file.base_name, part.reason)
                if on_broken == "raise":
                    raise OSError(
                        f"{folder}/{file.base_name} is broken and was set aside: the same command "
                        "samples its attempts again"
                    )
        if not missing or missing == before:
            break
    return found


def _set_aside(store: Store, folder: str, name: str, reason: str) -> None:
    broken = f"{folder}/broken" if folder else "broken"
    log.warning("%s/%s is not readable (%s): moved to %s/", folder, name, reason, broken)
    store.move(f"{folder}/{name}" if folder else name, f"{broken}/{name}")


def read_table(store: Store, folder: str, columns: list[str]) -> pa.Table:
    """Some columns of all attempts of a log's folder, in the order of its part names."""
    schema = pa.schema([ATTEMPT.field(column) for column in columns])
    found, _ = read_all(store, folder, lambda part: part.read(columns, use_threads=False))
    tables = [table.select(columns).cast(schema) for table in found.values()]
    return pa.concat_tables([schema.empty_table(), *tables])
