"""Attempts at benchmark items from an endpoint, each in the attempt log within seconds. No Ray.

recognise(one, config, samplings)      which model is it, does it fit
asyncio.run(ask(one, missing, store, config))
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from typing import Any

from limo_ray.attempts.log import AttemptLog, LogWriter
from limo_ray.core.prompts import question_messages
from limo_ray.core.records import Attempt, Problem
from limo_ray.engines.base import SamplingConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.endpoint import Endpoint, EndpointError, all_of
from limo_ray.evaluate.models import Contestant
from limo_ray.runs import heartbeat
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store
from limo_ray.verify import Health, Verifier, final_verdict, judge_key

log = logging.getLogger(__name__)

SAY_S = 15.0


async def ask(
    one: Contestant, missing: list[tuple[Stage, Problem, int]], store: Store,
    config: EvaluateConfig,
) -> None:  # fmt: skip
    """The missing attempts from an endpoint, each written down within seconds of its arrival."""
    writers = {stage.fingerprint: LogWriter(AttemptLog(store, stage.fingerprint))
               for stage, *_ in missing}  # fmt: skip
    health = Health(max_error_share=config.sampler.max_error_share)
    counts: Counter[str] = Counter()
    begun = time.time()

    def flush() -> None:
        for writer in writers.values():
            writer.flush()

    async def flusher() -> None:
        said = time.monotonic()
        while True:
            await asyncio.sleep(config.sampler.flush_s)
            await asyncio.to_thread(flush)
            if time.monotonic() - said > SAY_S:
                said = time.monotonic()
                speed = counts["tokens"] / (time.time() - begun)
                log.info(
                    "%s: %d of %d attempts, %.0f tokens/s, %d tries again", one.label,
                    counts["done"], len(missing), speed, endpoint.retries,
                )  # fmt: skip

    verifier = Verifier(
        workers=config.sampler.verify_workers, timeout_s=config.sampler.verify_timeout_s,
        judge=config.sampler.judge, code=config.sampler.code,
    )  # fmt: skip

    def facts() -> dict[str, Any]:
        spent = max(1.0, time.time() - begun)
        return {"attempts": counts["done"], "of": len(missing), "model": one.label,
                "tokens_per_s": counts["tokens"] / spent}  # fmt: skip

    heartbeat.tell("sampling", facts)
    async with Endpoint(one.url, one.model, config.client) as endpoint:
        await endpoint.open()

        async def one_attempt(job: tuple[Stage, Problem, int]) -> None:
            stage, problem, index = job
            messages = question_messages(problem.question, one.system)
            seed = _seed(config.seed, problem.id, index) if config.client.seeds else None
            completion = await endpoint.complete(messages, stage.sampling, seed)
            judged = await verifier.averify(
                problem.answer, completion.text, problem.domain,
                complete=completion.finish_reason != "length", question=problem.question,
            )  # fmt: skip
            verdict = final_verdict(judged.verdict, completion.finish_reason)
            writers[stage.fingerprint].append(
                Attempt(
                    problem_id=problem.id, index=index, completion=completion.text,
                    finish_reason=completion.finish_reason,
                    prompt_tokens=completion.prompt_tokens,
                    completion_tokens=completion.completion_tokens, verdict=verdict,
                    extracted=judged.extracted,
                    judge=judge_key(problem.answer, problem.domain, config.sampler.judge),
                )
            )  # fmt: skip
            counts["done"] += 1
            counts["tokens"] += completion.completion_tokens
            health.add(verdict)

        flushing = asyncio.create_task(flusher())
        try:
            failed = await all_of(missing, one_attempt, config.client.concurrency)
        finally:
            flushing.cancel()
            flush()  # also what came before a Ctrl-C or a refusal
            verifier.close()
    if failed:
        raise EndpointError(
            f"{len(failed)} of {len(missing)} attempts could not be had from {one.url}, the rest "
            f"is logged; the same command asks for them again. The last: {failed[-1][1]}"
        )


def _seed(seed: int, problem_id: str, index: int) -> int:
    """31 bits that belong to one draw alone."""
    digest = hashlib.sha256(f"{seed}:{problem_id}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def recognise(one: Contestant, config: EvaluateConfig, samplings: list[SamplingConfig]) -> None:
    """Asks an endpoint for its model; ValueError when completions do not fit its context."""

    async def look() -> None:
        async with Endpoint(one.url, one.model, config.client) as endpoint:
            await endpoint.open()
            for sampling in samplings:
                endpoint.check_length(sampling)
            known = config.client.identity if one.url == config.endpoint else ""
            asked = [config.client.extensions, dict(config.client.body)]
            one.recognise(endpoint.about, endpoint.model, known, asked)

    asyncio.run(look())
