"""Reads a curation's results: `open_run("store/runs/laptop").attempts()`."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from limo_ray.attempts.parts import read_table
from limo_ray.core.records import ATTEMPT, strong_counts
from limo_ray.core.uris import redact, split
from limo_ray.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

KEPT_IN = ("chains", "selection")  # stages of the ledger that only kept problems reach
KINDS = ("examples", "ledger", "problems", "attempts")


class Run:
    """The files of a curation as tables: pandas by name, Arrow by `table(name)`.

    `manifest` is manifest.json: settings, versions, counts, statistics.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._folder = store.within(f"runs/{name}")
        manifest = self._folder.read_json("manifest.json")
        if manifest is None:
            raise FileNotFoundError(
                f"{self._folder.shown} has no manifest.json: not a finished run"
            )
        self.manifest: dict[str, Any] = manifest

    def __repr__(self) -> str:
        return f"open_run({self._folder.shown!r})"

    def examples(self) -> "pd.DataFrame":
        """The examples, best first: messages, question, answer, solution, scores."""
        return self.table("examples").to_pandas()

    def ledger(self) -> "pd.DataFrame":
        """One row for every input row: kept or dropped, where, why, on what evidence (JSON)."""
        return self.table("ledger").to_pandas()

    def problems(self) -> "pd.DataFrame":
        """The kept problems, with `correct` and `finished` attempts of the strong stage."""
        return self.table("problems").to_pandas()

    def attempts(self) -> "pd.DataFrame":
        """Every attempt at the run's problems in the logs that it used, with its `stage`."""
        return self.table("attempts").to_pandas()

    def table(self, kind: str) -> pa.Table:
        """Examples, ledger, problems or attempts as an Arrow table."""
        if kind not in KINDS:
            raise ValueError(f"table: {kind!r} is none of {', '.join(KINDS)}")
        found: pa.Table = getattr(self, f"_{kind}")
        return found

    @cached_property
    def _examples(self) -> pa.Table:
        return self._folder.read_table("examples.parquet")

    @cached_property
    def _ledger(self) -> pa.Table:
        return self._parts("ledger")

    @cached_property
    def _problems(self) -> pa.Table:
        ledger = self._ledger
        kept = ledger.filter(pc.is_in(ledger["stage"], pa.array(KEPT_IN)))["problem_id"]
        rows = self._parts("decided")
        rows = rows.filter(pc.is_in(rows["id"], kept.combine_chunks()))
        columns = ["id", "question", "answer", "source", "domain", "metadata"]
        table = rows.select(columns)
        counts = [strong_counts(text) or (0, 0) for text in rows["outcomes"].to_pylist()]
        for place, name in enumerate(("correct", "finished")):
            table = table.append_column(
                name, pa.array([each[place] for each in counts], pa.int32())
            )
        return table

    @property
    def _attempts(self) -> pa.Table:
        ids = self._ledger["problem_id"].combine_chunks()
        stages: dict[str, list[str]] = {}
        for stage, fingerprint in self.manifest["fingerprints"].items():
            stages.setdefault(fingerprint, []).append(stage)
        tables = []
        for fingerprint, names in stages.items():
            table = read_table(self._store, f"attempts/{fingerprint}", ATTEMPT.names)
            table = table.filter(pc.is_in(table["problem_id"], ids))
            stage = pa.array([", ".join(names)] * len(table), pa.string())
            tables.append(table.append_column("stage", stage))
        return pa.concat_tables(tables)

    def _parts(self, folder: str) -> pa.Table:
        names = self._folder.files(folder)
        return pa.concat_tables([self._folder.read_table(f"{folder}/{name}") for name in names])


def open_run(uri: str) -> Run:
    """A finished curation by its folder or URI, `<store>/runs/<name>`.

    Raises:
        ValueError: not such a folder.
        FileNotFoundError: the run is not there, or has not ended.
    """
    bare, query = split(uri)
    store, slash, name = bare.rstrip("/").rpartition("/runs/")
    if not slash or not name:
        raise ValueError(f"run: {redact(uri)!r} is not <store>/runs/<name>")
    return Run(Store(store + query), name)
