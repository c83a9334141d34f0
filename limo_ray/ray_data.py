"""Ray Data as our jobs want it: how pools grow, what is logged, what the driver keeps."""

import logging

import ray
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor


class ForgetBlocks(ExecutionCallback):
    """Drops what Ray Data notes of each block for the summary that it logs at its end.

    It would be 2 KiB, and holes in the heap as large again, for each block of some dozen problems:
    the driver's memory would grow with the pool.
    """

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        for operator in executor._topology or ():
            getattr(operator, "_output_blocks_stats", []).clear()


def configure() -> None:
    """Settings of every job and test, for the connected cluster."""
    # Ray Data logs every failure with pages of its own; `cli.reason` tells ours in one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # limo_ray.progress shows what matters instead
    context.execution_options.verbose_progress = False
    if ForgetBlocks not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(ForgetBlocks)
    # Ray Data also asks the autoscaler for CPUs in general: never for nodes that wait for training.
    # Nodes without labels are fine.
    context.execution_options.label_selector = {"role": "!trainer"}
    context.execution_no_progress_timeout_s = -1  # a 32k-token tail can be silent for long
    # Engines are the only actor pools. By default one only grows where calls queue in front of
    # its actors; a sampler takes many calls at once, eight problems for each slot of its engine.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.75
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.125
    context.max_consecutive_actor_init_deaths = 5
    context.default_hash_shuffle_parallelism = max(2, int(ray.cluster_resources().get("CPU", 2)))
