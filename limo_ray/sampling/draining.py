"""Saving a sampler's work before its process ends, or its job is interrupted.

Two things announce the end of a process: SIGTERM (`ray stop`, a container's end, the kernel's or
an operator's kill), and Ray's draining of its node (`ray drain-node`, the autoscaler, `ray start
--block` on SIGTERM), which names a deadline some time ahead.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Collection
from typing import Any

from limo_ray.attempts.partials import Partial
from limo_ray.engines.base import Completion, Request
from limo_ray.sampling import ray_internals
from limo_ray.sampling.log_session import LogSession
from limo_ray.sampling.slots import EngineSlots

log = logging.getLogger(__name__)

NODE_EVERY_S = 5.0  # between two looks at whether the node is being drained
CUT_S = 10.0  # at the most, for completions that were cut off to come back

Attempts = Collection["asyncio.Task[None]"]


class Draining:
    """Writes everything that a sampler has: its attempts, and completions that are unfinished."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: EngineSlots,
        log_session: LogSession,
        partial_tokens: int,
        start_no_more: Callable[[], Attempts],
    ) -> None:
        """
        Args:
            loop: runs the sampler.
            partial_tokens: fewest tokens of a completion that is saved unfinished; 0 saves none.
            start_no_more: ends the starting of attempts, and returns those that are open.
        """
        self.loop = loop
        self.slots = slots
        self.log_session = log_session
        self.partial_tokens = partial_tokens
        self.start_no_more = start_no_more
        self.cut: list[tuple[int, Partial]] = []  # by stage index
        self._preempted = False

    def keep(self, stage_index: int, request: Request, completion: Completion) -> None:
        """Keeps a completion that was cut off, if it is long enough to be saved."""
        if len(completion.tokens) >= self.partial_tokens:
            partial = Partial(
                problem_id=request.problem.id,
                index=request.index,
                tokens=completion.tokens,
                completion=completion.text,
            )
            self.cut.append((stage_index, partial))

    async def save(self) -> None:
        """Stops the sampler's attempts and writes what there is of them."""
        attempts = self.start_no_more()
        self.log_session.final_flush()
        if self.slots.engine is not None and self.partial_tokens:
            await self.slots.cut_off()
            if attempts:
                await asyncio.wait(attempts, timeout=CUT_S)
        cut, self.cut = self.cut, []
        self.log_session.save_cut(cut)
        self.log_session.final_flush()

    def preempt(self) -> None:
        """Saves everything and shuts the engine down; for a thread that is not the loop's."""
        if self._preempted:
            return
        self._preempted = True
        saved = asyncio.run_coroutine_threadsafe(self.save(), self.loop)
        try:
            saved.result(timeout=2 * CUT_S)
        except TimeoutError:
            log.warning("preempted: not everything was saved within %.0f s", 2 * CUT_S)
        self.slots.shutdown()


def exit_on_sigterm(save: Callable[[], None]) -> bool:
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


async def watch_node(node_id: str, margin_s: float) -> None:
    """Sends this process a SIGTERM `margin_s` seconds before the end of its node's draining."""
    while True:
        left = await asyncio.to_thread(ray_internals.seconds_until_drained, node_id)
        if left is not None and left <= margin_s:
            log.warning("node %s: draining, %.0f s left: saving and exiting", node_id, left)
            os.kill(os.getpid(), signal.SIGTERM)  # Ray starts this actor again elsewhere
            return
        wait = NODE_EVERY_S if left is None else left - margin_s
        await asyncio.sleep(min(NODE_EVERY_S, wait))
