"""The attempt log: append-only, shared by all runs of a store.

    <store>/attempts/<sampling fingerprint>/part-*.parquet

A part is there complete or not at all, so that any process can be killed at any moment.
"""

import logging
import secrets
import threading
import time
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.attempts.compaction import LARGE, compact, merge
from limo_ray.attempts.index import (
    COLUMNS,
    DICTIONARIES,
    AttemptIndex,
    index_of_batches,
    merge_indexes,
)
from limo_ray.attempts.parts import read_all
from limo_ray.core.records import ATTEMPT, Attempt, Verdict, attempts_table
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

ROWS = 1 << 16  # of small columns, read at once
TEXT_ROWS = 1 << 12  # with their text


class AttemptLog:
    """The attempts under one sampling fingerprint."""

    def __init__(self, store: Store, fingerprint: str) -> None:
        self.store = store
        self.folder = f"attempts/{fingerprint}"

    def compact(self) -> int:
        """Merges the small parts that killed writers left; returns by how many there are fewer."""
        return compact(self.store, self.folder)

    def read_index(self, skip: Collection[str] = ()) -> AttemptIndex:
        """The index of the log, empty where there is no log yet.

        Args:
            skip: names of parts to leave out, and with them parts merged from these alone.
        """

        def index(part: pq.ParquetFile) -> AttemptIndex:
            columns = list(COLUMNS)
            return index_of_batches(part.iter_batches(ROWS, columns=columns, use_threads=False))

        found, seen = read_all(
            self.store, self.folder, index, known=skip, dictionaries=DICTIONARIES
        )
        return merge_indexes([found.pop(name) for name in list(found)], seen)

    def tokens(self) -> tuple[int, int]:
        """Tokens of the prompts and of the completions of all attempts.

        An attempt counts once, however often it was verified.
        """
        columns = ["problem_id", "index", "prompt_tokens", "completion_tokens"]
        found, _ = read_all(
            self.store, self.folder, lambda part: part.read(columns, use_threads=False)
        )
        tables = [table.group_by(columns).aggregate([]) for table in found.values()]
        if not tables:
            return 0, 0
        attempts = pa.concat_tables(tables).group_by(columns).aggregate([])
        prompt, completion = (pc.sum(attempts[name]).as_py() or 0 for name in columns[2:])
        return prompt, completion

    def attempts(self, problem_ids: list[str]) -> list[Attempt]:
        """The first attempt of each (problem, index, judge) among these problems.

        Only their rows are held in memory, however long the log is. Raises OSError for a part that
        turns out to be broken, after setting it aside: the job's next start samples its attempts
        again.
        """
        wanted = pa.array(problem_ids, pa.string())

        def rows_of_problems(part: pq.ParquetFile) -> pa.Table:
            tables = []
            for group in range(part.num_row_groups):
                ids = part.read_row_group(group, ["problem_id"], use_threads=False)
                if not pc.any(pc.is_in(ids["problem_id"], wanted)).as_py():
                    continue
                for batch in part.iter_batches(TEXT_ROWS, row_groups=[group], use_threads=False):
                    table = pa.Table.from_batches([batch])
                    mine = table.filter(pc.is_in(table["problem_id"], wanted))
                    tables.append(mine.select(ATTEMPT.names).cast(ATTEMPT))
            return pa.concat_tables([ATTEMPT.empty_table(), *tables])

        found, _ = read_all(self.store, self.folder, rows_of_problems, on_broken="raise")
        first: dict[tuple[str, int, str], Attempt] = {}
        for table in found.values():
            for row in table.to_pylist():
                key = (row["problem_id"], row["index"], row["judge"])
                if key not in first or first[key].verdict is Verdict.ERROR:
                    first[key] = Attempt(**row | {"verdict": Verdict(row["verdict"])})
        return list(first.values())


class LogWriter:
    """Appends attempts to a log: one part per flush, and small parts merged on the way.

    Whenever a writer has `merge` parts of one size class it writes them as one and deletes them
    (see limo_ray/attempts/compaction.py): 0 are flushes, 1 merged flushes, 2 merged from those.
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
                self._merge()
            return len(attempts)

    def _write(self, table: pa.Table, size: int) -> None:
        name = self._next_name()
        self.log.store.write_table(f"{self.log.folder}/{name}", table)
        self._parts.setdefault(size, []).append(name)

    def _next_name(self) -> str:
        self._count += 1
        return f"part-{self.name}-{self._count - 1:06d}.parquet"

    def _merge(self) -> None:
        """Merges the size classes that are full; what is in the log is safe whatever happens."""
        size = 0
        while len(names := self._parts.get(size, [])) >= self.merge:
            name = self._next_name()
            try:
                written = merge(self.log.store, self.log.folder, names, name)
            except OSError as error:
                log.warning("compaction of the attempt log failed (%s): will try again", error)
                return
            except (ValueError, pa.ArrowException) as error:
                log.warning("compaction skipped for %d parts of the log: %s", len(names), error)
                written = LARGE
            self._parts[size] = []
            if 0 < written < LARGE:
                self._parts.setdefault(size + 1, []).append(name)
            size += 1
