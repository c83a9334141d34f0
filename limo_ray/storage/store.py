"""Files under one folder or URI, each there whole or not at all, on disks and object stores.

A file that was written survives a crash of the machine.
"""

import io
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from limo_ray.core.uris import open_uri, redact, redacted, split
from limo_ray.storage import durable

log = logging.getLogger(__name__)

COPIED = 16 * 2**20  # bytes copied at once
# Without checksums a flipped bit is read as other data.
WRITTEN: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}


class Store:
    """Files under one root; names are paths relative to it, with slashes.

    Cheap to pickle: workers open the file system themselves.

    Args:
        uri: a local folder, or s3:// or gs:// with what limo_ray.core.uris takes.
    """

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
        """Its address for logs, reports and files: without credentials, without options."""
        return redact(split(self.uri)[0]).rstrip("/") if "://" in self.uri else self.uri

    def path(self, name: str) -> str:
        """The path that `filesystem` takes."""
        root = self._opened[1]
        return f"{root}/{name}" if name else root

    def within(self, folder: str) -> "Store":
        """The store whose root is a folder of this one."""
        if "://" not in self.uri:
            return Store(f"{self.uri.rstrip('/')}/{folder}")
        bare, query = split(self.uri)
        return Store(f"{bare.rstrip('/')}/{quote(folder)}{query}")

    @contextmanager
    def _whole(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to write, there whole or not at all after an exception, a kill or a crash.

        When this returns the file is on disk. It is written under another name in its folder and
        renamed, or, for an object store, written to a temporary file and uploaded in one call:
        closing a stream to a store would publish what it holds.
        """
        path = self.path(name)
        if self.local:
            durable.make_folder(os.path.dirname(path))
            made = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
        else:
            handle, made = tempfile.mkstemp(prefix="limo_ray-upload-")
            os.close(handle)
        try:
            with pafs.LocalFileSystem().open_output_stream(made) as stream:
                yield stream
            if self.local:
                durable.publish(made, path)
            else:
                self._upload(made, path)
        finally:
            with suppress(OSError):  # the file is written, or another error says why not
                os.unlink(made)

    def _upload(self, file: str, path: str) -> None:
        """Sends a local file to an object store.

        A stream that ends early publishes what it holds. So this runs in a thread of its own,
        where Ctrl-C and SIGTERM raise nothing; a write that fails, fails the stream's end too.
        """

        def send() -> None:
            with open(file, "rb") as source, self.filesystem.open_output_stream(path) as stream:
                while chunk := source.read(COPIED):
                    stream.write(chunk)

        _uninterrupted(send)

    def write_bytes(self, name: str, content: bytes | pa.Buffer) -> None:
        """Writes a whole file, or none."""
        with self._whole(name) as stream:
            stream.write(content)

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, value: Any) -> None:
        """Writes plain values. Credentials in URIs among them are left out."""
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
            metadata: gives the file's metadata, called when all tables are written.
        """
        with self._whole(name) as stream:
            with pq.ParquetWriter(stream, schema, **WRITTEN) as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=max(1, len(table)))
                writer.add_key_value_metadata(metadata())
            size: int = stream.tell()
        return size

    def copy_in(self, file: Path, name: str) -> None:
        """Copies a local file into the store, a chunk at a time: whole or not at all."""
        if not self.local:
            self._upload(str(file), self.path(name))
            return
        with file.open("rb") as source, self._whole(name) as stream:
            while chunk := source.read(COPIED):
                stream.write(chunk)

    def copy_folder_in(self, source: Path, name: str, last: str) -> None:
        """Copies a local folder into the store, in place of what has the name: no mix of both.

        Args:
            last: a file without which a folder is not finished. Object stores have no rename: there
                it is deleted before anything is replaced, and uploaded last.
        """
        if self.local:
            path = Path(self.path(name))
            durable.make_folder(str(path.parent))
            made = path.with_name(f"{path.name}.new")
            shutil.rmtree(made, ignore_errors=True)  # of a copy that was killed
            shutil.copytree(source, made)
            durable.publish_folder(made, path)
            return
        self.delete(f"{name}/{last}")
        self.delete(name)
        files = [file for file in sorted(source.rglob("*")) if file.is_file()]
        for file in sorted(files, key=lambda file: file == source / last):
            self.copy_in(file, f"{name}/{file.relative_to(source)}")

    def copy_out(self, name: str, file: Path) -> None:
        """Copies one of its files to a local one."""
        with (
            self.filesystem.open_input_stream(self.path(name)) as source,
            file.open("wb") as target,
        ):
            while chunk := source.read(COPIED):
                target.write(chunk)

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
        """The file's value, or None where there is no such file.

        One that cannot be read counts as absent too, with a warning: a crash, or an earlier version
        that did not sync its files, may have left it empty.
        """
        try:
            return json.loads(self.read_bytes(name))
        except FileNotFoundError:
            return None
        except ValueError as error:  # no JSON, or not UTF-8
            log.warning("%s/%s is not readable (%s): ignored", self.shown, name, error)
            return None

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

    def move(self, name: str, target: str) -> None:
        """Moves a file within the store; does nothing if it is gone."""
        if self.local:
            durable.make_folder(os.path.dirname(self.path(target)))
        with suppress(FileNotFoundError):  # another process was faster
            self.filesystem.move(self.path(name), self.path(target))

    def infos(self, folder: str, suffix: str = ".parquet") -> list[pafs.FileInfo]:
        """Size, time and path of the files directly in a folder, sorted by name.

        A folder that does not exist has none.

        Args:
            suffix: of their names; empty for all files.
        """
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        found = [info for info in infos if info.is_file and info.base_name.endswith(suffix)]
        return sorted(found, key=lambda info: info.base_name)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder, relative to it, sorted."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def files(self, folder: str, suffix: str = ".parquet") -> list[str]:
        """Names of the files directly in a folder, relative to it, sorted."""
        return [info.base_name for info in self.infos(folder, suffix)]


def _uninterrupted(call: Callable[[], None]) -> None:
    """Calls in a thread and waits for its end, also when the main thread is interrupted."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
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


def scan(folder: Store, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a folder's Parquet files, streamed in the order of the files' names."""
    paths = [folder.path(name) for name in folder.files("")]
    if paths:
        import pyarrow.dataset as pads  # brings pandas, which most commands do without

        yield from pads.dataset(paths, filesystem=folder.filesystem).to_batches(columns=columns)
