"""Where a run keeps what it has: run directories, the attempt log, the ledger, the manifest.

Everything lies under one folder or URI (local, s3://, gs://) and is written once and whole: a file
is there complete or not at all, so that any process can be killed at any moment.

    <store>/attempts/<sampling fingerprint>/part-*.parquet   append-only, shared by all runs
    <store>/runs/<name>/...                                  one folder per run
"""

import io
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from limo_ray.records import ATTEMPT, Attempt, Verdict, attempts_table

log = logging.getLogger(__name__)

VERDICTS = list(Verdict)
CHECKED = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class Store:
    """Files under one root. Cheap to pickle: workers open the file system themselves."""

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().resolve())

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.uri,)

    @cached_property
    def _opened(self) -> tuple[pafs.FileSystem, str]:
        filesystem, root = pafs.FileSystem.from_uri(self.uri)
        return filesystem, root.rstrip("/")

    @property
    def filesystem(self) -> pafs.FileSystem:
        return self._opened[0]

    def path(self, name: str) -> str:
        """The path that `filesystem` takes."""
        root = self._opened[1]
        return f"{root}/{name}" if name else root

    def within(self, folder: str) -> "Store":
        return Store(f"{self.uri.rstrip('/')}/{folder}")

    @contextmanager
    def _whole(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to write, there whole or not at all.

        Object stores publish on close, local disks on rename.
        """
        path = self.path(name)
        local = isinstance(self.filesystem, pafs.LocalFileSystem)
        target = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp" if local else path
        if local:
            self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        try:
            with self.filesystem.open_output_stream(target) as stream:
                yield stream
            if local:
                self.filesystem.move(target, path)
        except OSError:
            if local:  # on a full disk half a file must not take what the next try needs
                Path(target).unlink(missing_ok=True)
            raise

    def write_bytes(self, name: str, content: bytes | pa.Buffer) -> None:
        """Writes a whole file, or none."""
        with self._whole(name) as stream:
            stream.write(content)

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        buffer = io.BytesIO()
        pq.write_table(
            table,
            buffer,
            compression="zstd",
            row_group_size=row_group_size,
            write_page_checksum=True,  # without, a flipped bit is read as other data
        )
        self.write_bytes(name, buffer.getbuffer())

    def copy_in(self, file: Path, name: str) -> None:
        """Copies a local file into the store, a piece at a time: whole or not at all."""
        with file.open("rb") as source, self._whole(name) as stream:
            while piece := source.read(16 * 2**20):
                stream.write(piece)

    def read_text(self, name: str) -> str | None:
        """The file's text, or None where there is no such file."""
        try:
            with self.filesystem.open_input_stream(self.path(name)) as stream:
                return stream.read().decode("utf-8")
        except FileNotFoundError:
            return None

    def read_json(self, name: str) -> Any:
        text = self.read_text(name)
        return None if text is None else json.loads(text)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Raises OSError or pa.ArrowException for a file that is not whole and sound."""
        return pq.read_table(
            self.path(name),
            columns=columns,
            filesystem=self.filesystem,
            page_checksum_verification=True,
        )

    def exists(self, name: str) -> bool:
        return self.filesystem.get_file_info(self.path(name)).type != pafs.FileType.NotFound

    def delete(self, name: str) -> None:
        info = self.filesystem.get_file_info(self.path(name))
        if info.type == pafs.FileType.Directory:
            self.filesystem.delete_dir(self.path(name))
        elif info.type == pafs.FileType.File:
            self.filesystem.delete_file(self.path(name))

    def files(self, folder: str, suffix: str = ".parquet") -> list[str]:
        """Names of the files right in a folder, relative to it, sorted."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if info.base_name.endswith(suffix))

    def read_parts(self, folder: str, columns: list[str], skip: Collection[str] = ()) -> pa.Table:
        """All attempts of a folder of the log, in the order of its part names, but for `skip`.

        A part that cannot be read is set aside in `broken/` with a warning. A part that vanishes
        meanwhile was compacted: the folder is listed again until nothing is missing.
        """
        read: dict[str, pa.Table] = {}
        while fresh := [n for n in self.files(folder) if n not in read and n not in skip]:
            vanished = 0
            for name in fresh:
                path = f"{folder}/{name}" if folder else name
                try:
                    read[name] = self.read_table(path, columns)
                except FileNotFoundError:
                    vanished += 1
                except (pa.ArrowException, OSError) as error:
                    self._set_aside(folder, name, error)
            if not vanished:
                break
        empty = pa.schema([ATTEMPT.field(column) for column in columns]).empty_table()
        return pa.concat_tables([empty, *(read[name].cast(empty.schema) for name in sorted(read))])

    def _set_aside(self, folder: str, name: str, error: Exception) -> None:
        broken = f"{folder}/broken" if folder else "broken"
        log.warning("%s/%s is not readable (%s): moved to %s/", folder, name, error, broken)
        self.filesystem.create_dir(self.path(broken), recursive=True)
        self.filesystem.move(self.path(f"{folder}/{name}"), self.path(f"{broken}/{name}"))


def scan(folder: Store, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a folder's Parquet files, streamed in the order of the files' names."""
    paths = [folder.path(name) for name in folder.files("")]
    if paths:
        yield from pads.dataset(paths, filesystem=folder.filesystem).to_batches(columns=columns)


@dataclass(slots=True)
class Prior:
    """What the log knows of one problem: verdicts by draw, and draws that want a new verdict."""

    verdicts: dict[int, Verdict]
    stale: set[int]


@dataclass(slots=True)
class Fold:
    """The state of an attempt log: sorted arrays, 29 bytes per attempt, shared between processes.

    A problem id is two 64-bit halves; rows are sorted by (high, low, index, time of logging).
    """

    high: np.ndarray  # (n,) uint64
    low: np.ndarray  # (n,) uint64
    index: np.ndarray  # (n,) int32
    verdict: np.ndarray  # (n,) uint8, a place in VERDICTS
    judge: np.ndarray  # (n,) uint64

    def __len__(self) -> int:
        return len(self.high)

    def prior(self, problem_id: str, judge: str) -> Prior:
        """The attempts logged for a problem: of each draw the first with this judge key counts.

        One whose checker failed (ERROR) counts until a later row has a verdict.
        """
        high, low = int(problem_id[:16], 16), int(problem_id[16:], 16)
        start = np.searchsorted(self.high, np.uint64(high), side="left")
        end = np.searchsorted(self.high, np.uint64(high), side="right")
        verdicts: dict[int, Verdict] = {}
        seen: set[int] = set()
        wanted = int(judge, 16)
        for row in range(start, end):
            if int(self.low[row]) != low:
                continue
            draw = int(self.index[row])
            seen.add(draw)
            open_still = verdicts.get(draw, Verdict.ERROR) is Verdict.ERROR
            if open_still and int(self.judge[row]) == wanted:
                verdicts[draw] = VERDICTS[self.verdict[row]]
        sound = {draw for draw, verdict in verdicts.items() if verdict is not Verdict.ERROR}
        return Prior(verdicts, seen - sound)


def _halves(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Hex strings of 16 * width digits as a (n, width) array of uint64."""
    text = "".join(column.to_pylist())
    numbers = np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)
    return numbers.reshape(-1, width)


class AttemptLog:
    """The attempts under one sampling fingerprint."""

    def __init__(self, store: Store, fingerprint: str) -> None:
        self.store = store
        self.folder = f"attempts/{fingerprint}"

    def fold(self, skip: Collection[str] = ()) -> Fold:
        """Reads the log's small columns. A log that is not there yet folds to an empty state.

        Parts named in `skip` are left out: they are known already.
        """
        columns = ["problem_id", "index", "verdict", "judge"]
        table = self.store.read_parts(self.folder, columns, skip)
        ids = _halves(table["problem_id"], 2)
        codes = {verdict: place for place, verdict in enumerate(VERDICTS)}
        index = table["index"].to_numpy().astype(np.int32)
        verdict = np.array([codes[v] for v in table["verdict"].to_pylist()], dtype=np.uint8)
        judge = _halves(table["judge"], 1)[:, 0]
        order = np.lexsort((index, ids[:, 1], ids[:, 0]))  # stable: time of logging comes last
        return Fold(ids[order, 0], ids[order, 1], index[order], verdict[order], judge[order])

    def attempts(self, problem_ids: list[str]) -> list[Attempt]:
        """The first attempt of each (problem, index, judge) among these problems.

        Only their rows are held in memory, however long the log is. Raises OSError for a part that
        turns out to be broken, after setting it aside: the job's next start draws anew what it had.
        """
        wanted = pads.field("problem_id").isin(pa.array(problem_ids, pa.string()))
        rows: list[dict[str, Any]] = []
        for name in self.store.files(self.folder):
            path = self.store.path(f"{self.folder}/{name}")
            try:
                part = pads.dataset(
                    path, filesystem=self.store.filesystem, schema=ATTEMPT, format=CHECKED
                )
                rows += part.to_table(filter=wanted).to_pylist()
            except FileNotFoundError:  # merged meanwhile, by another run
                return self.attempts(problem_ids)
            except (pa.ArrowException, OSError) as error:
                self.store._set_aside(self.folder, name, error)
                raise OSError(
                    f"{self.folder}/{name} is broken and was set aside: the same command draws "
                    "its attempts again"
                ) from error
        first: dict[tuple[str, int, str], Attempt] = {}
        for row in rows:
            key = (row["problem_id"], row["index"], row["judge"])
            if key not in first or first[key].verdict is Verdict.ERROR:
                first[key] = Attempt(**row | {"verdict": Verdict(row["verdict"])})
        return list(first.values())


class LogWriter:
    """Appends attempts to a log: one part per flush, and small parts merged on the way.

    A log written every few seconds by hundreds of samplers would be millions of files: whenever a
    writer has `merge` parts of one size class it writes them as one and deletes them. A crash in
    between leaves rows twice, which `Fold` tolerates.
    """

    def __init__(self, attempt_log: AttemptLog, merge: int = 16) -> None:
        self.log = attempt_log
        self.merge = merge
        self.name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self.pending: list[Attempt] = []
        self._parts: dict[int, list[str]] = {}  # size class -> names
        self._count = 0
        self._appending = threading.Lock()
        self._flushing = threading.Lock()

    def append(self, attempt: Attempt) -> None:
        with self._appending:
            self.pending.append(attempt)

    def flush(self) -> int:
        """Writes what is pending as a part; returns the number of attempts written.

        Raises OSError when the store does; the attempts then stay pending for the next flush.
        """
        with self._flushing:
            with self._appending:
                attempts, self.pending = self.pending, []
            if attempts:
                try:
                    self._write(attempts_table(attempts), 0)
                except OSError:
                    with self._appending:
                        self.pending = attempts + self.pending
                    raise
            return len(attempts)

    def _write(self, table: pa.Table, size: int) -> None:
        name = f"part-{self.name}-{self._count:06d}.parquet"
        self._count += 1
        self.log.store.write_table(f"{self.log.folder}/{name}", table)
        parts = self._parts.setdefault(size, [])
        parts.append(name)
        if len(parts) >= self.merge:
            self._parts[size] = []
            try:
                self._merge(parts, size)
            except (OSError, pa.ArrowException) as error:  # they stay as they are: all is logged
                log.warning("parts of %s not merged: %s", self.log.folder, error)

    def _merge(self, parts: list[str], size: int) -> None:
        paths = [f"{self.log.folder}/{part}" for part in parts]
        merged = pa.concat_tables([self.log.store.read_table(path) for path in paths])
        self._write(merged, size + 1)
        for path in paths:
            self.log.store.delete(path)
