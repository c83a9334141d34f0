"""Ray Data as our jobs want it: how pools grow, how far steps run ahead, what the driver keeps."""

import logging
import math

import ray
from ray.data import DataContext, Dataset
from ray.data._internal.execution import backpressure_policy as backpressure
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from limo_ray.sampling.batching import MAX_QUEUED_BLOCKS


class FewBlocksAhead(backpressure.BackpressurePolicy):
    """Holds a step back while MAX_QUEUED_BLOCKS blocks wait behind it.

    Ray Data bounds their bytes. Blocks of some dozen problems are small and many, and Ray keeps
    small ones in the driver's own memory, at 25 KiB each with what it notes of them. Between two
    engines this also bounds how far the first runs ahead of the second.
    """

    def can_add_input(self, op: PhysicalOperator) -> bool:
        return self._room(op) > 0

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        room = self._room(op)
        if room == math.inf:
            return None
        each = op.metrics.average_bytes_per_output or 1  # of the first block nothing is known
        return max(0, math.ceil(room * each))

    def _room(self, op: PhysicalOperator) -> float:
        """Blocks that may still come; shuffles need all of theirs before they begin."""
        if not isinstance(op, MapOperator):
            return math.inf
        waiting = self._topology[op].total_enqueued_output_blocks()
        for following in op.output_dependencies:
            if isinstance(following, MapOperator):
                waiting += following.internal_input_queue_num_blocks()
        return MAX_QUEUED_BLOCKS - waiting


class ForgetBlocks(ExecutionCallback):
    """Drops what Ray Data notes of each block for the summary that it logs at its end.

    It would be 2 KiB, and holes in the heap as large again, for each block of some dozen problems:
    the driver's memory would grow with the pool.
    """

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        for operator in executor._topology or ():
            getattr(operator, "_output_blocks_stats", []).clear()


def in_small_blocks(data: Dataset) -> Dataset:
    """The same, of blocks of a thousand rows or so, which flow instead of flooding the next step.

    By default a step makes blocks of 128 MiB, and may have two of them ready, each of which waits
    for the driver's next turn: of small ones too few would come to feed an engine.
    """
    data.context.target_max_block_size = 2**20
    data.context._max_num_blocks_in_streaming_gen_buffer = 16
    # one block a second may pass FewBlocksAhead while engines wait for their nodes, not ten
    data.context.output_backpressure_guard_release_interval_s = 1.0
    return data


def configure() -> None:
    """Settings of every job and test, for the connected cluster."""
    # Ray Data logs every failure with pages of its own; `cli.reason` tells ours in one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = DataContext.get_current()
    context.enable_progress_bars = False  # limo_ray.sampling.progress shows what matters instead
    context.execution_options.verbose_progress = False
    if ForgetBlocks not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(ForgetBlocks)
    policies = [*backpressure.ENABLED_BACKPRESSURE_POLICIES, FewBlocksAhead]
    context.set_config(backpressure.ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)
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
