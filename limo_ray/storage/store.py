"""Files under one folder or URI, each there whole or not at all, on disks and object stores."""

import io
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from limo_ray.core.records import ATTEMPT
from limo_ray.core.text import first_line
from limo_ray.core.uris import open_uri, redact, redacted, split

log = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 16 * 2**20  # bytes copied at once
MERGED_FROM = b"limo_ray.merged_from"  # in a part's metadata: names of the parts it stands for
GONE = "gone"
# Without checksums a flipped bit is read as other data.
WRITTEN: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
AT_ONCE = 8 * 2**20  # bytes of a remote part that is fetched whole
LOCAL_READERS, REMOTE_READERS = 4, 32  # parts read at once: remote ones are mostly waited for


class Store:
    """Files under one root. Cheap to pickle: workers open the file system themselves."""

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().resolve())

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.uri,)

    def __repr__(self) -> str:
        return f"Store({redact(self.uri)!r})"

    @cached_property
    def _opened(self) -> tuple[pafs.FileSystem, str]:
        filesystem, root = open_uri(self.uri)
        return filesystem, root.rstrip("/")

    @property
    def filesystem(self) -> pafs.FileSystem:
        return self._opened[0]

    @property
    def local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def shown(self) -> str:
        """Its place as it may be shown and written: without credentials, without options."""
        return redact(split(self.uri)[0]).rstrip("/") if "://" in self.uri else self.uri

    def path(self, name: str) -> str:
        """The path that `filesystem` takes."""
        root = self._opened[1]
        return f"{root}/{name}" if name else root

    def within(self, folder: str) -> "Store":
        if "://" not in self.uri:
            return Store(f"{self.uri.rstrip('/')}/{folder}")
        bare, query = split(self.uri)
        return Store(f"{bare.rstrip('/')}/{quote(folder)}{query}")

    @contextmanager
    def _whole(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to write, there whole or not at all: neither an exception nor a kill leaves half.

        It is written to disk beside its place and renamed, or, for an object store, to a temporary
        file and uploaded in one call: closing a stream to a store would publish what it holds.
        """
        path = self.path(name)
        if self.local:
            self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            made = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
        else:
            handle, made = tempfile.mkstemp(prefix="limo_ray-upload-")
            os.close(handle)
        try:
            with pafs.LocalFileSystem().open_output_stream(made) as stream:
                yield stream
            if self.local:
                self.filesystem.move(made, path)
            else:
                self._upload(made, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(made)

    def _upload(self, file: str, path: str) -> None:
        """Sends a local file to an object store.

        A stream that ends early publishes what it holds. So this runs in a thread of its own,
        where Ctrl-C and SIGTERM raise nothing; a write that fails, fails the stream's end too.
        """

        def send() -> None:
            with open(file, "rb") as source, self.filesystem.open_output_stream(path) as stream:
                while piece := source.read(PIECE):
                    stream.write(piece)

        _uninterrupted(send)

    def write_bytes(self, name: str, content: bytes | pa.Buffer) -> None:
        """Writes a whole file, or none."""
        with self._whole(name) as stream:
            stream.write(content)

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, value: Any) -> None:
        """Writes plain values: facts about a run, so without credentials of its URIs."""
        text = json.dumps(redacted(value), indent=2, ensure_ascii=False, default=str)
        self.write_text(name, text + "\n")

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=row_group_size, **WRITTEN)
        self.write_bytes(name, buffer.getbuffer())

    def write_tables(
        self,
        name: str,
        schema: pa.Schema,
        tables: Iterator[pa.Table],
        metadata: Callable[[], dict[bytes, str]],
    ) -> int:
        """Writes tables as the row groups of one file, as they come; returns its size in bytes.

        Args:
            metadata: asked when all tables are written.
        """
        with self._whole(name) as stream:
            with pq.ParquetWriter(stream, schema, **WRITTEN) as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=max(1, len(table)))
                writer.add_key_value_metadata(metadata())
            size: int = stream.tell()
        return size

    def copy_in(self, file: Path, name: str) -> None:
        """Copies a local file into the store, a piece at a time: whole or not at all."""
        if not self.local:
            self._upload(str(file), self.path(name))
            return
        with file.open("rb") as source, self._whole(name) as stream:
            while piece := source.read(PIECE):
                stream.write(piece)

    def copy_out(self, name: str, file: Path) -> None:
        """Copies one of its files to a local one."""
        with (
            self.filesystem.open_input_stream(self.path(name)) as source,
            file.open("wb") as target,
        ):
            while piece := source.read(PIECE):
                target.write(piece)

    def read_bytes(self, name: str) -> bytes:
        """The file's content. Raises FileNotFoundError where there is no such file."""
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            content: bytes = stream.read()
            return content

    def read_text(self, name: str) -> str | None:
        """The file's text, or None where there is no such file."""
        try:
            return self.read_bytes(name).decode("utf-8")
        except FileNotFoundError:
            return None

    def read_json(self, name: str) -> Any:
        text = self.read_text(name)
        return None if text is None else json.loads(text)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Raises OSError or pa.ArrowException for a file that is not whole and sound."""
        return pq.read_table(
            self.path(name), columns=columns, filesystem=self.filesystem,
            page_checksum_verification=True,
        )  # fmt: skip

    def exists(self, name: str) -> bool:
        return self.filesystem.get_file_info(self.path(name)).type != pafs.FileType.NotFound

    def delete(self, name: str) -> None:
        """Deletes a file or folder, if it is there."""
        info = self.filesystem.get_file_info(self.path(name))
        with suppress(FileNotFoundError):  # another process was faster
            if info.type == pafs.FileType.Directory:
                self.filesystem.delete_dir(self.path(name))
            elif info.type == pafs.FileType.File:
                self.filesystem.delete_file(self.path(name))

    def infos(self, folder: str, suffix: str = ".parquet") -> list[pafs.FileInfo]:
        """The files right in a folder, by name."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        found = [info for info in infos if info.is_file and info.base_name.endswith(suffix)]
        return sorted(found, key=lambda info: info.base_name)

    def files(self, folder: str, suffix: str = ".parquet") -> list[str]:
        """Names of the files right in a folder, relative to it, sorted."""
        return [info.base_name for info in self.infos(folder, suffix)]

    # Parts of an attempt log.

    def read_parts(self, folder: str, columns: list[str]) -> pa.Table:
        """All attempts of a folder of the log, in the order of its part names."""
        schema = pa.schema([ATTEMPT.field(column) for column in columns])
        found, _ = self.each_part(folder, lambda part: part.read(columns, use_threads=False))
        tables = [table.select(columns).cast(schema) for table in found.values()]
        return pa.concat_tables([schema.empty_table(), *tables])

    def each_part(
        self,
        folder: str,
        does: Callable[[pq.ParquetFile], T],
        known: Collection[str] = (),
        dictionaries: Collection[str] = (),
        aside: bool = True,
        strict: bool = False,
    ) -> tuple[dict[str, T], set[str]]:
        """does(part) for the parts of a log's folder, several at once.

        A part that cannot be read is set aside in `broken/` with a warning. A part that vanishes
        meanwhile was merged into another: the folder is listed again until nothing is missing.

        Args:
            does: called in threads; what it returns of all parts is held in memory.
            known: names of parts to leave out, and with them parts merged from these alone.
            dictionaries: columns that are read as dictionaries.
            aside: false passes parts by that cannot be read, and leaves them where they are.
            strict: one that cannot be read is an OSError, after it is set aside.

        Returns:
            What `does` returned by name, in the order of the names and without the parts that
            another one stands for; and all names seen.
        """
        known = frozenset(known)
        results: dict[str, T] = {}
        stand_ins: dict[str, list[str]] = {}

        def take(source: Any, name: str) -> None:
            filesystem = self.filesystem if isinstance(source, str) else None
            with pq.ParquetFile(
                source, filesystem=filesystem, read_dictionary=list(dictionaries),
                page_checksum_verification=True,
            ) as part:  # fmt: skip
                sources = merged_from(part)
                if not sources or not known.issuperset(sources):
                    results[name] = does(part)
                stand_ins[name] = sources

        def read(info: pafs.FileInfo) -> str | None:
            """Reads a part; returns why it could not: GONE, or what is wrong with it."""
            path, name = info.path, info.base_name
            try:
                try:
                    if self.local or info.size > AT_ONCE:
                        take(path, name)
                    else:  # one request, during which other threads run
                        take(pa.BufferReader(read_all(path)), name)
                except FileNotFoundError:
                    raise
                except (pa.ArrowException, OSError, ValueError):
                    # A bad minute of the network, or damage? Then the bytes come, and are bad.
                    content = read_all(path)
                    try:
                        take(pa.BufferReader(content), name)
                    except (pa.ArrowException, OSError, ValueError) as error:
                        return first_line(error)
            except FileNotFoundError:
                return GONE
            return None

        def read_all(path: str) -> bytes:
            with self.filesystem.open_input_stream(path) as stream:
                content: bytes = stream.read()
                return content

        def unseen() -> list[pafs.FileInfo]:
            infos = self.infos(folder)
            return [i for i in infos if i.base_name not in known and i.base_name not in stand_ins]

        missing: list[str] = []
        with ThreadPoolExecutor(LOCAL_READERS if self.local else REMOTE_READERS) as pool:
            while fresh := unseen():
                ends = dict(zip([i.base_name for i in fresh], pool.map(read, fresh), strict=True))
                for name, end in ends.items():
                    if end and end != GONE and aside:
                        self._set_aside(folder, name, end)
                        if strict:
                            raise OSError(
                                f"{folder}/{name} is broken and was set aside: the same command "
                                "draws its attempts again"
                            )
                    elif end and end != GONE:
                        stand_ins[name] = []
                before, missing = missing, [name for name, end in ends.items() if end == GONE]
                if not missing or missing == before:
                    break
        merged = {source for sources in stand_ins.values() for source in sources}
        names = sorted(name for name in results if name not in merged)
        return {name: results[name] for name in names}, set(stand_ins)

    def _set_aside(self, folder: str, name: str, reason: str) -> None:
        broken = f"{folder}/broken" if folder else "broken"
        log.warning("%s/%s is not readable (%s): moved to %s/", folder, name, reason, broken)
        self.filesystem.create_dir(self.path(broken), recursive=True)
        with suppress(FileNotFoundError):  # another process was faster
            self.filesystem.move(
                self.path(f"{folder}/{name}" if folder else name), self.path(f"{broken}/{name}")
            )


def _uninterrupted(does: Callable[[], None]) -> None:
    """Calls `does` and waits for its end, also when the main thread is interrupted meanwhile."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            does()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="upload")
    thread.start()
    try:
        thread.join()
    finally:
        thread.join()
    if failed:
        raise failed[0]


def merged_from(part: pq.ParquetFile) -> list[str]:
    """Names of the parts that a part of an attempt log stands for."""
    found: list[str] = json.loads((part.metadata.metadata or {}).get(MERGED_FROM, b"[]"))
    return found


def scan(folder: Store, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a folder's Parquet files, streamed in the order of the files' names."""
    paths = [folder.path(name) for name in folder.files("")]
    if paths:
        yield from pads.dataset(paths, filesystem=folder.filesystem).to_batches(columns=columns)
