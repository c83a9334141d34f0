"""A sampler's link to its job's coordinator: totals go there every second, instructions come back.

The coordinator is a Ray actor (limo_ray/sampling/coordinator.py); several samplers report to it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import ray

from limo_ray.sampling.coordinator import Instructions
from limo_ray.sampling.spending import SpendBudget

REPORT_S = 1.0


class CoordinatorLink:
    def __init__(
        self,
        coordinator: Any,
        worker: str,
        stats: Callable[[], dict[str, Any]],
        budget: SpendBudget,
        *,
        halt: Callable[[bool], Awaitable[None]],
        stop_groups: Callable[[], None],
    ) -> None:
        """
        Args:
            coordinator: handle of a `Coordinator` actor.
            worker: the sampler's name among those of the job.
            stats: the sampler's running totals.
            budget: learns what the job's other attempts have cost.
            halt: called with every report's answer once the job has stopped its samplers; the
                argument says whether the job will be resumed.
            stop_groups: called when `stopped_groups` has grown.
        """
        self.coordinator = coordinator
        self.worker = worker
        self.stats = stats
        self.budget = budget
        self.halt = halt
        self.stop_groups = stop_groups
        self.stopped_groups: set[str] = set()

    def claim(self, batch: str) -> bool:
        """True when the batch was handed out before. Not for the event loop's thread."""
        return bool(ray.get(self.coordinator.claim.remote(batch)))

    async def report(self) -> Instructions:
        stats = self.stats()
        instructions: Instructions = await self.coordinator.report.remote(self.worker, stats)
        self.budget.elsewhere = instructions.dollars - stats["dollars"]
        return instructions

    async def keep_reporting(self) -> None:
        """Reports for ever and passes the instructions on."""
        while True:
            instructions = await self.report()
            if instructions.halt:
                await self.halt(instructions.resumable)
            if instructions.stopped_groups - self.stopped_groups:
                self.stopped_groups = set(instructions.stopped_groups)
                self.stop_groups()
            await asyncio.sleep(REPORT_S)
