"""The notice that a process or its node is about to be taken away.

Two come to a sampler: SIGTERM to its own process (`ray stop`, a container's end, the kernel's or
an operator's kill), and Ray's draining of its node (`ray drain-node`, the autoscaler, `ray start
--block` on SIGTERM), which names a deadline some time ahead.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import ray


def leave_on_sigterm(save: Callable[[], None]) -> bool:
    """On SIGTERM calls `save`, then ends the process; Ray starts its actor again elsewhere.

    Ray's own handler is replaced: it waits for the tasks that run, which can be hours here.
    Returns False, and does nothing, outside the main thread, where Python takes no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return False

    def handler(number: int, frame: Any) -> None:
        try:
            save()
        finally:
            os._exit(1)

    signal.signal(signal.SIGTERM, handler)
    return True


def seconds_left(node_id: str) -> float | None:
    """Until the node is taken away: 0 if that may be any moment, None if it stays.

    Args:
        node_id: in hex, as Ray's runtime context gives it.
    """
    # The same source that Ray Train and Ray Data watch; there is no public one in Ray 2.60.
    deadline_ms = ray._private.state.state.get_draining_nodes().get(node_id)
    if deadline_ms is None:
        return None
    return max(0.0, deadline_ms / 1000 - time.time())
