import gc
import threading
import time

import pyarrow as pa
from ray.data.block import BlockStats

from limo_ray.core.records import ORDER_BITS, POOL
from limo_ray.curate import pool
from limo_ray.sampling import ray_internals
from limo_ray.sampling.ray_data_settings import in_small_blocks
from limo_ray.sampling.ray_internals import QueuedBlocksLimit
from limo_ray.storage.store import Store

BLOCKS = 200
ARROW = {"batch_format": "pyarrow", "batch_size": None}


def held_stats() -> int:
    return sum(isinstance(thing, BlockStats) for thing in gc.get_objects())


def test_the_driver_forgets_the_blocks_that_went_through(local_ray):
    before = held_stats()  # of other tests
    data = local_ray.data.range(BLOCKS * 4, override_num_blocks=4)
    data = data.repartition(target_num_rows_per_block=4).map_batches(
        lambda table: table, batch_size=4, batch_format="pyarrow", num_cpus=0.5
    )
    seen = 0
    for batch in data.iter_batches(prefetch_batches=0, **ARROW):
        seen += len(batch)
        if seen == BLOCKS * 4:  # the stats would go with the execution
            held = held_stats()
    assert seen == BLOCKS * 4
    assert held - before < BLOCKS / 4


def test_only_so_many_blocks_wait_for_a_slow_step(local_ray, monkeypatch):
    ahead, most, policies = 25, [0], []
    monkeypatch.setattr(ray_internals, "MAX_QUEUED_BLOCKS", ahead)
    begun = QueuedBlocksLimit.__init__

    def watched(self, *args, **kwargs):
        begun(self, *args, **kwargs)
        policies.append(self)

    monkeypatch.setattr(QueuedBlocksLimit, "__init__", watched)

    def slow(table):
        time.sleep(0.1)
        return table

    rows = 4 * ahead
    data = in_small_blocks(local_ray.data.range(rows, override_num_blocks=1))
    data = data.repartition(target_num_rows_per_block=1)
    data = data.map_batches(slow, num_cpus=0.5, **ARROW)
    done = threading.Event()

    def watch():
        while not done.wait(0.02):
            for policy in policies:
                for state in list(policy._topology.values()):
                    most[0] = max(most[0], state.total_enqueued_output_blocks())

    threading.Thread(target=watch, daemon=True).start()
    seen = sum(len(batch) for batch in data.iter_batches(prefetch_batches=0, **ARROW))
    done.set()
    assert seen == rows
    assert ahead / 2 < most[0] < 1.5 * ahead


def test_the_pool_comes_in_its_order_range_by_range(local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "ROWS_IN_ORDER", 100)
    store, rows = Store(str(tmp_path)), 1000
    step = (1 << ORDER_BITS) // rows
    for part in range(4):
        own = range(part, rows, 4)
        table = pa.Table.from_pylist([{"id": str(i)} for i in own], schema=POOL)
        orders = pa.array([i * step for i in own], pa.int64())
        store.write_table(f"part-{part}.parquet", table.append_column("order", orders))
    data = in_small_blocks(pool.in_order(store))
    tables = list(data.iter_batches(prefetch_batches=0, **ARROW))
    assert len(tables) > 5, "a range is a block at least"
    assert [int(i) for i in pa.concat_tables(tables)["id"].to_pylist()] == list(range(rows))
