"""The notice that a process or its node is about to be taken away.

Two come to a sampler: SIGTERM to its own process (`ray stop`, a container's end, the kernel's or
an operator's kill), and Ray's draining of its node (`ray drain-node`, the autoscaler, `ray start
--block` on SIGTERM), which names a deadline some time ahead.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any


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
