"""Settings of Ray Data for our jobs: how pools grow, how far operators run ahead, what is kept."""

import logging

import ray
from ray.data import DataContext, Dataset

from limo_ray.sampling import ray_internals


def in_small_blocks(data: Dataset) -> Dataset:
    """The same, of blocks of a thousand rows or so, which flow instead of flooding the next step.

    By default a step makes blocks of 128 MiB, and may have two of them ready, each of which waits
    for the driver's next turn: of small ones too few would come to feed an engine.
    """
    data.context.target_max_block_size = 2**20
    ray_internals.buffer_blocks(data.context, 16)
    # one block a second may pass QueuedBlocksLimit while engines wait for their nodes, not ten
    data.context.output_backpressure_guard_release_interval_s = 1.0
    return data


def configure() -> None:
    """Settings of every job and test, for the connected cluster."""
    # Ray Data logs every failure with pages of its own; `core.errors.reason` makes one line of it.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # limo_ray.sampling.progress shows what matters instead
    context.execution_options.verbose_progress = False
    ray_internals.install(context)
    # Ray Data also asks the autoscaler for CPUs in general: never for nodes that wait for training.
    # Nodes without labels are fine.
    context.execution_options.label_selector = {"role": "!trainer"}
    context.execution_no_progress_timeout_s = -1  # a 32k-token tail can be silent for long
    # Engines are the only actor pools. By default one only grows where calls queue in front of
    # its actors; a sampler takes many calls at once, eight problems for each slot of its engine.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.75
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.125
    context.max_consecutive_actor_init_deaths = 5
    cpus = ray.cluster_resources().get("CPU", 2)  # type: ignore[no-untyped-call]
    context.default_hash_shuffle_parallelism = max(2, int(cpus))
