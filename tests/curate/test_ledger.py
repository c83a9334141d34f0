"""A ledger without a row for every row of the pool is never published."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from limo_ray.core.records import POOL, SAMPLED
from limo_ray.curate import ledger
from limo_ray.storage.store import Store

EVERY = SimpleNamespace(cutoffs=SimpleNamespace(include=lambda row: True), stages=[])
KEPT = {f"p{n}": ledger.Outcome("selection", None, {}) for n in range(3)}


def rows(schema: pa.Schema, numbers: range, **values: Any) -> pa.Table:
    plain = dict.fromkeys(schema.names, None) | {"source": "s", "domain": "math", "file": "f"}
    return pa.Table.from_pylist(
        [plain | {"id": f"p{n}", "line": n, **values} for n in numbers], schema=schema
    )


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """A pool of four rows, one of them dropped before sampling."""
    store = Store(str(tmp_path))
    pool = POOL.append(pa.field("order", pa.int64()))
    store.write_table("pool/part-0.parquet", rows(pool, range(3), order=1))
    dropped = rows(pool, range(3, 4), order=1, stage="filters", reason="proof")
    store.write_table("pool/part-1.parquet", dropped)
    return store


def decide(run: Store, numbers: range, part: int = 0) -> None:
    table = rows(SAMPLED, numbers, order=1, alive=True, outcomes="[]")
    run.write_table(f"decided/part-{part}.parquet", table)


def test_every_row_of_the_pool_has_a_row(run: Store) -> None:
    decide(run, range(3))
    counts = ledger.write(run, EVERY, KEPT, {"p1": {"votes": {"7": 3}}})
    assert sum(count["rows"] for count in counts) == 4
    written = run.read_table("ledger/part-000000.parquet").to_pylist()
    evidence = {row["problem_id"]: row["evidence"] for row in written}
    assert (evidence["p1"], evidence["p2"]) == ('{"votes": {"7": 3}}', "{}")


def test_a_lost_part_of_the_decisions_is_an_error(run: Store) -> None:
    decide(run, range(2))
    with pytest.raises(ledger.LedgerError, match=r"3 rows for 4 rows of the pool: parts of"):
        ledger.write(run, EVERY, KEPT, {})


def test_a_doubled_part_is_an_error(run: Store) -> None:
    decide(run, range(3))
    decide(run, range(1), part=1)
    with pytest.raises(ledger.LedgerError, match=r"5 rows for 4 rows of the pool"):
        ledger.write(run, EVERY, KEPT, {})
