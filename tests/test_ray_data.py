import gc

from ray.data.block import BlockStats

BLOCKS = 200


def test_the_driver_forgets_the_blocks_that_went_through(local_ray):
    data = local_ray.data.range(BLOCKS * 4, override_num_blocks=4)
    data = data.repartition(target_num_rows_per_block=4).map_batches(
        lambda table: table, batch_size=4, batch_format="pyarrow", num_cpus=0.5
    )
    seen = 0
    for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        seen += len(batch)
        if seen == BLOCKS * 4:  # the stats would go with the execution
            held = sum(isinstance(thing, BlockStats) for thing in gc.get_objects())
    assert seen == BLOCKS * 4
    assert held < BLOCKS / 4
