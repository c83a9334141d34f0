"""The engine with budget forcing: AsyncLLM whose `generate` obeys a request's thinking budget.

It works below vLLM's OpenAI layer, which sees one completion: streaming, n, logprobs, stop strings,
usage and parsers of reasoning need nothing of their own. The budget comes in the sampling
parameters' `extra_args`, as `limo_ray.serve.openai_extensions` puts it there.
"""

import asyncio
import copy
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from limo_ray.engines.base import EngineConfig
from limo_ray.engines.vllm import VllmEngine
from limo_ray.engines.vllm_internals import AsyncLLM
from limo_ray.serve.budget import Budget, CompletionChunk, GenerationSegment, Limits, Style, force
from limo_ray.serve.openai_extensions import THINKING

SEED_STEP = 1_000_003  # stretches of one completion must not draw the same numbers again


class ForcingLLM(AsyncLLM):
    """AsyncLLM with a style of thinking, set after its start."""

    style: Style

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **rest: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Like AsyncLLM's; a budget in `extra_args` makes it several stretches of generation."""
        asked = (sampling_params.extra_args or {}).get(THINKING)
        if asked is None:
            return super().generate(prompt, sampling_params, request_id, **rest)
        return self._forced(prompt, sampling_params, request_id, asked, rest)

    async def _forced(
        self, prompt: Any, params: SamplingParams, name: str, asked: list[int], rest: dict[str, Any]
    ) -> AsyncGenerator[RequestOutput, None]:
        if not isinstance(prompt, dict) or "prompt_token_ids" not in prompt:
            raise VLLMValidationError("a thinking budget needs a prompt of text or token ids")
        least, most, waits = asked
        budget = Budget(least, None if most < 0 else most, waits)
        streams = params.output_kind == RequestOutputKind.DELTA
        whole = _Whole(prompt["prompt_token_ids"], name, params.n or 1)
        runs = [
            _Run(self, prompt, params, f"{name}_{index}", index, rest, whole)
            for index in range(params.n or 1)
        ]
        async with aclosing(_together([run.pieces(budget) for run in runs])) as merged:
            async for index, piece in merged:
                whole.add(index, piece)
                if streams and (piece.text or piece.ids or piece.finish):
                    yield whole.output([_completion(index, piece)])
        if not streams:
            yield whole.output([_completion(i, piece) for i, piece in enumerate(whole.pieces)])


class _Whole:
    """What the completions of one request share, and their sums."""

    def __init__(self, prompt: list[int], name: str, n: int) -> None:
        self.prompt = prompt
        self.name = name
        self.pieces = [CompletionChunk("", []) for _ in range(n)]
        self.first: RequestOutput | None = None  # of the engine: it knows the prompt's logprobs

    def add(self, index: int, piece: CompletionChunk) -> None:
        sum_ = self.pieces[index]
        sum_.text += piece.text
        sum_.ids += piece.ids
        if piece.extra is not None:
            sum_.extra = (sum_.extra or []) + list(piece.extra)
        sum_.finish, sum_.stop = piece.finish, piece.stop

    def output(self, completions: list[CompletionOutput]) -> RequestOutput:
        first = self.first
        return RequestOutput(
            request_id=self.name,
            prompt=None,
            prompt_token_ids=self.prompt,
            prompt_logprobs=first.prompt_logprobs if first else None,
            outputs=completions,
            finished=all(piece.finish for piece in self.pieces),
            num_cached_tokens=first.num_cached_tokens if first else None,
        )


class _Run:
    """One completion: what budget.force asks for, asked of the engine."""

    def __init__(
        self, llm: ForcingLLM, prompt: Any, params: SamplingParams, name: str, index: int,
        rest: dict[str, Any], whole: _Whole,
    ) -> None:  # fmt: skip
        self.llm = llm
        self.prompt = prompt
        self.params = params
        self.name = name
        self.index = index
        self.rest = rest
        self.whole = whole
        self.codec = _codec(llm, params)

    async def pieces(self, budget: Budget) -> AsyncGenerator[CompletionChunk, None]:
        params = self.params
        limits = Limits(
            max_tokens=params.max_tokens or 1,
            min_tokens=params.min_tokens,
            stop=tuple(params.stop or ()),
            stop_ids=tuple(params.stop_token_ids or ()),
            include_stop=params.include_stop_str_in_output,
        )
        forced = force(
            budget, self.llm.style, limits, self.prompt["prompt_token_ids"], self.codec, self._draw
        )
        async with aclosing(forced):
            async for piece in forced:
                if params.logprobs is not None and piece.extra is None:
                    piece.extra = [self._certain(token) for token in piece.ids]
                yield piece

    async def _draw(self, stretch: GenerationSegment) -> AsyncGenerator[CompletionChunk, None]:
        params = self._params(stretch)
        prompt: Any = {**self.prompt, "prompt_token_ids": stretch.prompt}
        prompt.pop("prompt", None)
        name = f"{self.name}_{stretch.number}"
        outputs = AsyncLLM.generate(self.llm, prompt, params, name, **self.rest)
        async with aclosing(outputs):
            async for output in outputs:
                if self.whole.first is None:
                    self.whole.first = output
                for one in output.outputs:
                    logprobs = None if one.logprobs is None else list(one.logprobs)
                    yield CompletionChunk(
                        one.text, list(one.token_ids), one.finish_reason, one.stop_reason,
                        extra=logprobs,
                    )  # fmt: skip

    def _params(self, stretch: GenerationSegment) -> SamplingParams:
        """The request's parameters with the stretch's limits."""
        params = copy.copy(self.params)
        params.n = 1
        params.max_tokens = stretch.max_tokens
        params.min_tokens = stretch.min_tokens
        params.stop = stretch.stop
        params.stop_token_ids = stretch.stop_ids
        params.include_stop_str_in_output = False
        params.prompt_logprobs = self.params.prompt_logprobs if stretch.number == 0 else None
        params.extra_args = None
        params.output_text_buffer_length = max((len(one) for one in stretch.stop), default=1) - 1
        params._all_stop_token_ids = set(stretch.stop_ids)
        params._eos_token_id = None
        if params.seed is not None:
            params.seed = (params.seed + self.index + SEED_STEP * stretch.number) % 2**63
        return params

    def _certain(self, token: int) -> dict[int, Logprob]:
        """The log probability of a token that was put in: nothing else could have come."""
        return {token: Logprob(0.0, 1, self.codec.decode([token]))}


class _Codec:
    """A Hugging Face tokenizer as budget.Codec."""

    def __init__(self, tokenizer: Any, ends: frozenset[int], skip: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = skip
        self.ends = ends
        self.special = frozenset(tokenizer.all_special_ids)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def shown(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)


def _codec(llm: ForcingLLM, params: SamplingParams) -> _Codec:
    tokenizer: Any = llm.renderer.tokenizer
    if params.ignore_eos:
        return _Codec(tokenizer, frozenset(), params.skip_special_tokens)
    named = llm.model_config.try_get_generation_config().get("eos_token_id")
    ends = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return _Codec(tokenizer, frozenset(ends - {None}), params.skip_special_tokens)


def _completion(index: int, piece: CompletionChunk) -> CompletionOutput:
    return CompletionOutput(
        index=index,
        text=piece.text,
        token_ids=piece.ids,
        cumulative_logprob=None,
        logprobs=piece.extra,
        finish_reason=piece.finish,
        stop_reason=piece.stop,
    )


async def _together(
    runs: list[AsyncGenerator[CompletionChunk, None]],
) -> AsyncGenerator[tuple[int, CompletionChunk], None]:
    """The pieces of several completions as they come. Closing it closes them all."""
    if len(runs) == 1:
        async with aclosing(runs[0]):
            async for only in runs[0]:
                yield 0, only
        return
    queue: asyncio.Queue[tuple[int, CompletionChunk | None]] = asyncio.Queue()

    async def drain(index: int) -> None:
        async with aclosing(runs[index]):
            async for piece in runs[index]:
                queue.put_nowait((index, piece))

    tasks = [asyncio.create_task(drain(index)) for index in range(len(runs))]
    for index, task in enumerate(tasks):
        task.add_done_callback(lambda _, index=index: queue.put_nowait((index, None)))  # type: ignore[misc]
    try:
        open_ = len(tasks)
        while open_:
            index, piece = await queue.get()
            if piece is not None:
                yield index, piece
                continue
            open_ -= 1
            tasks[index].result()  # raises what ended it
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ServedEngine(VllmEngine):
    """The sampler's engine with forcing; `llm` is what vLLM's OpenAI layer is built on."""

    def __init__(self, config: EngineConfig, style: Style) -> None:
        super().__init__(config)
        self._style = style

    def _class(self) -> Any:
        return ForcingLLM

    def _arguments(self, model: str) -> dict[str, Any]:
        arguments = super()._arguments(model)
        if self.config.device != "cpu":
            return arguments
        # On CPU a request with a seed kills the engine if its prompt is read in two steps: vLLM
        # then turns the generator back, which only a GPU's can be. So prompts are read in one.
        whole = {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(2048, self.config.max_model_len),
        }
        return whole | arguments

    async def start(self) -> None:
        await super().start()
        self._vllm.style = self._style

    @property
    def llm(self) -> ForcingLLM:
        return self._vllm
