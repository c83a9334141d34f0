"""Unfinished completions of a preempted engine, kept so that they go on instead of starting again.

    <store>/attempts/<sampling fingerprint>/partial/part-*.parquet

Sampling is autoregressive: the tokens so far are a fair sample of a completion's beginning, and
what an engine samples after prompt and beginning is a fair sample of the rest. So a completion
continued elsewhere has the distribution of an uninterrupted one, as long as being cut off does not
depend on what was being written, and the rest has random numbers of its own (engines give a
continued request another seed).

A partial completion belongs to one attempt, (problem, index). Once that attempt is logged nobody
samples it again, so it cannot be used twice; if its continuation is lost too, it is continued once
more. `delete_used` deletes files of which every attempt is logged.
"""

import logging
import secrets
import threading
import time
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.attempts.index import AttemptIndex
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

PARTIAL = pa.schema(
    [
        ("problem_id", pa.string()),
        ("index", pa.int32()),
        ("tokens", pa.list_(pa.int32())),  # of the completion so far; the prompt's are not there
        ("completion", pa.string()),  # the same as text, for people
    ]
)


@dataclass(kw_only=True, slots=True)
class Partial:
    """Attempt `index` at a problem, as far as it got."""

    problem_id: str
    index: int
    tokens: list[int]
    completion: str


class Partials:
    """The partial completions under one sampling fingerprint. Tokens are read when they are used.

    Its methods may be called by several threads.
    """

    def __init__(self, store: Store, fingerprint: str) -> None:
        self.store = store
        self.folder = f"attempts/{fingerprint}/partial"
        self._files: dict[tuple[str, int], str] = {}  # attempt -> the file with most of it
        self._lengths: dict[tuple[str, int], int] = {}
        self._read: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def load(self) -> None:
        """Reads which attempts there are, in files that are new since the last time."""
        with self._lock:
            for name in self.store.files(self.folder):
                if name not in self._read:
                    self._index(name)

    def _index(self, name: str) -> None:
        self._read.add(name)
        try:
            table = self.store.read_table(f"{self.folder}/{name}", PARTIAL.names[:3])
        except FileNotFoundError:  # deleted meanwhile
            return
        except (pa.ArrowException, OSError) as error:
            log.warning("%s/%s is not readable (%s): left alone", self.folder, name, error)
            return
        lengths = pc.list_value_length(table["tokens"]).to_pylist()
        attempts = zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True)
        for attempt, length in zip(attempts, lengths, strict=True):
            if length > self._lengths.get(attempt, 0):
                self._files[attempt], self._lengths[attempt] = name, length

    def find(self, problem_id: str, index: int) -> Partial | None:
        """What there is of an attempt, the longest if it was cut off several times."""
        with self._lock:
            name = self._files.get((problem_id, index))
        if name is None:
            return None
        try:
            table = self.store.read_table(f"{self.folder}/{name}")
        except (FileNotFoundError, pa.ArrowException, OSError) as error:
            log.warning("%s/%s is not readable (%s): sampled anew", self.folder, name, error)
            return None
        mine = pc.and_(pc.equal(table["problem_id"], problem_id), pc.equal(table["index"], index))
        rows = table.filter(mine).to_pylist()
        return Partial(**max(rows, key=lambda row: len(row["tokens"]))) if rows else None

    def save(self, partials: list[Partial]) -> None:
        """Writes a file. Raises OSError when the store does."""
        if partials:
            table = pa.Table.from_pylist([asdict(each) for each in partials], schema=PARTIAL)
            name = f"part-{time.time_ns():020d}-{secrets.token_hex(4)}.parquet"
            self.store.write_table(f"{self.folder}/{name}", table)

    def delete_used(self, index: AttemptIndex) -> int:
        """Deletes the files whose every attempt is in the log; returns how many."""
        self.load()
        with self._lock:
            wanted = {
                name
                for (problem_id, attempt), name in self._files.items()
                if attempt not in index.logged(problem_id)
            }
            gone = self._read - wanted
            for name in gone:
                self.store.delete(f"{self.folder}/{name}")
            self._files = {key: name for key, name in self._files.items() if name in wanted}
            return len(gone)
