"""The private parts of Ray that this project uses, all of them. No other file touches any.

Ray may change them in any release; tests/sampling/test_ray_internals.py says which one it changed.

| private name | why it is used |
| --- | --- |
| `ray._private.state.state.get_draining_nodes` | the deadline of a node that will be taken away: Ray Train and Ray Data watch it too, there is no public function |
| `ray._private.ray_constants.ENABLE_RAY_CLUSTER` | false makes every server of a local Ray bind to 127.0.0.1; the variable that sets it is read when Ray is imported |
| the logger `ray._private.authentication` | to silence its notice that tokens are on |
| `ray._private.worker.print_to_stdstream` | to leave out what Ray says of tasks that nobody waits for any more |
| `backpressure_policy.BackpressurePolicy`, its `_topology` | `QueuedBlocksLimit` is one: Ray Data has no public setting that bounds queued blocks |
| `backpressure_policy.ENABLED_BACKPRESSURE_POLICIES` and `..._CONFIG_KEY` | to add it to Ray Data's own policies |
| `OpState.total_enqueued_output_blocks`, `MapOperator.internal_input_queue_num_blocks`, `PhysicalOperator.output_dependencies` | to count queued blocks |
| `PhysicalOperator.metrics.average_bytes_per_output` | to say a number of blocks in bytes |
| `ExecutionCallback`, `DataContext.custom_execution_callback_classes` | `DropBlockStats` is one, called at every step of an execution |
| `StreamingExecutor._topology`, `PhysicalOperator._output_blocks_stats` | the statistics that it drops |
| `DataContext._max_num_blocks_in_streaming_gen_buffer` | how many finished blocks a task may hold: two are too few where blocks are small |

The module `backpressure_policy` and the classes are in `ray.data._internal.execution`.
"""  # noqa: E501

import logging
import math
import os
import re
import time
from typing import Any

import ray
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray.data import DataContext
from ray.data._internal.execution import backpressure_policy as backpressure
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from limo_ray.sampling.batching import MAX_QUEUED_BLOCKS

ABANDONED = re.compile(r"Task MapWorker\(.*\)\.submit failed\..*killed by `ray\.kill`")


def bind_to_loopback() -> None:
    """Makes all servers of a Ray that this process starts listen on 127.0.0.1 alone.

    To be called before `ray.init`. RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=1 in the environment keeps
    Ray's default, all interfaces.
    """
    wanted = os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray_constants.ENABLE_RAY_CLUSTER = wanted == "1"


def silence_token_notice() -> None:
    """Ray prints a warning where token authentication is on because nobody turned it off."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def silence_abandoned_tasks() -> None:
    """Leaves out that sampling was cut short: a stage that has what it wants leaves tasks behind.

    Ray says that each "failed", and that it will be tried again, which it will not.
    """
    shown = ray_worker.print_to_stdstream

    def print_to_stdstream(data: dict[str, Any], ignore_prefix: bool) -> None:
        if not any(ABANDONED.search(line) for line in data["lines"]):
            shown(data, ignore_prefix)

    if shown.__module__ != __name__:  # once a process
        ray_worker.print_to_stdstream = print_to_stdstream


def seconds_until_drained(node_id: str) -> float | None:
    """Seconds until the node is taken away: 0 if it may be any moment, None if it stays.

    Args:
        node_id: in hex, as Ray's runtime context gives it.
    """
    deadline_ms = ray._private.state.state.get_draining_nodes().get(node_id)
    if deadline_ms is None:
        return None
    return max(0.0, deadline_ms / 1000 - time.time())


class QueuedBlocksLimit(backpressure.BackpressurePolicy):
    """Holds an operator back while MAX_QUEUED_BLOCKS of its blocks are queued.

    Ray Data bounds their bytes. Blocks of some dozen problems are small and many, and Ray keeps
    small ones in the driver's own memory, at 25 KiB each with its records of them. Between two
    engines this also bounds how far the first runs ahead of the second.
    """

    def can_add_input(self, op: PhysicalOperator) -> bool:
        return self._room(op) > 0

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        room = self._room(op)
        if room == math.inf:
            return None
        block_bytes = op.metrics.average_bytes_per_output or 1  # unknown before the first block
        return max(0, math.ceil(room * block_bytes))

    def _room(self, op: PhysicalOperator) -> float:
        """Blocks that may still be queued; infinite for a shuffle, which needs all its input."""
        if not isinstance(op, MapOperator):
            return math.inf
        queued = self._topology[op].total_enqueued_output_blocks()
        for following in op.output_dependencies:
            if isinstance(following, MapOperator):
                queued += following.internal_input_queue_num_blocks()
        return MAX_QUEUED_BLOCKS - queued


class DropBlockStats(ExecutionCallback):
    """Drops the statistics that Ray Data keeps of each block for the summary at the end.

    They are 2 KiB for each block of some dozen problems, and leave holes in the heap as large
    again: the driver's memory would grow with the pool.
    """

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        for operator in executor._topology or ():
            getattr(operator, "_output_blocks_stats", []).clear()


def install(context: DataContext) -> None:
    """Adds the policy and the callback to a context, once however often it is called."""
    if DropBlockStats not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(DropBlockStats)
    policies = [*backpressure.ENABLED_BACKPRESSURE_POLICIES, QueuedBlocksLimit]
    context.set_config(backpressure.ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)


def buffer_blocks(context: DataContext, blocks: int) -> None:
    """Lets each task hold so many finished blocks until the driver's next turn."""
    context._max_num_blocks_in_streaming_gen_buffer = blocks
