"""The engine alone: what benches compare with, and what makes their completions."""

import asyncio
import time

from limo_ray.core.prompts import SYSTEM, question_messages
from limo_ray.core.records import Problem
from limo_ray.engines.base import Completion, EngineConfig, Request, SamplingConfig, create


async def complete(
    config: EngineConfig, sampling: SamplingConfig, problems: list[Problem], attempts: int
) -> tuple[list[Completion], float]:
    """`attempts` completions of each problem in turn, all asked for at once, and the seconds."""
    engine = create(config)
    await engine.start()
    requests = []
    for problem in problems:
        prompt = engine.render(question_messages(problem.question, SYSTEM))
        requests += [
            Request(problem=problem, index=index, prompt=prompt, sampling=sampling)
            for index in range(attempts)
        ]
    started = time.perf_counter()
    done = await asyncio.gather(*map(engine.generate, requests))
    seconds = time.perf_counter() - started
    engine.shutdown()
    return done, seconds
