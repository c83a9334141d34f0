"""A step of the pool: a map over work items on the cluster; each item leaves one file."""

import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from limo_ray.core.text import duration
from limo_ray.runs import heartbeat
from limo_ray.storage.store import Store

log = logging.getLogger(__name__)

LOG_EVERY_S = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step. An item whose file is there is done: a second run continues a killed one."""

    name: str
    outputs: Store
    """Folder of the files that items leave."""
    items: dict[str, Any]
    """The work items, by the name of the file that each leaves."""
    run: Callable[[Any], int]
    """Does an item's work; returns the rows that it handled. Pickled to the workers."""
    in_driver: bool = False
    """Run here and not in tasks of the cluster."""

    def finish(self) -> float:
        """Does what is left to do; returns the seconds that it took."""
        started = time.time()
        done = set(self.outputs.files("", suffix=""))
        left = [item for file, item in self.items.items() if file not in done]
        if self.in_driver:
            for item in left:
                self.run(item)
        elif left:
            self._on_cluster(left)
        return time.time() - started

    def _on_cluster(self, items: list[Any]) -> None:
        import ray.data

        run = self.run

        def call(batch: pa.Table) -> pa.Table:
            rows = [run(pickle.loads(item)) for item in batch["item"].to_pylist()]
            return pa.table({"rows": pa.array(rows, pa.int64())})

        call.__name__ = self.name  # what the dashboard shows
        tables = [pa.table({"item": [pickle.dumps(item)]}) for item in items]
        calls = ray.data.from_arrow(tables).map_batches(
            call, batch_size=None, batch_format="pyarrow", num_cpus=1
        )
        calls.set_name(f"pool_{self.name}")
        started = logged = time.time()
        rows = ended = 0
        heartbeat.tell(
            "pool", lambda: {"step": self.name, "parts": ended, "of": len(items), "rows": rows}
        )
        for row in calls.iter_rows():
            rows, ended = rows + row["rows"], ended + 1
            if time.time() - logged > LOG_EVERY_S:
                logged = time.time()
                log.info(
                    "pool, %s: %d of %d items, %s rows, %s rows/s",
                    self.name, ended, len(items), f"{rows:,}", f"{rows / (logged - started):,.0f}",
                )  # fmt: skip
        spent = time.time() - started
        if spent > LOG_EVERY_S:
            log.info("pool, %s: %s rows in %s", self.name, f"{rows:,}", duration(spent))
