"""The engine with budget forcing: AsyncLLM whose `generate` obeys a request's thinking budget.

It works below vLLM's OpenAI layer, which sees one completion: streaming, n, logprobs, stop strings,
usage and parsers of reasoning need nothing of their own. The budget comes in the sampling
parameters' `extra_args`, as `limo_ray.serve.openai_extensions` puts it there.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.async_utils import merge_async_iterators

from limo_ray.engines.base import EngineConfig
from limo_ray.engines.vllm import VllmEngine
from limo_ray.engines.vllm_internals import AsyncLLM
from limo_ray.serve import vllm_openai
from limo_ray.serve.adapters import Adapter, engine_arguments
from limo_ray.serve.budget import Budget, CompletionChunk, GenerationSegment, Limits, Style, force
from limo_ray.serve.openai_extensions import THINKING

Chunks = AsyncGenerator[CompletionChunk, None]


class ForcingLLM(AsyncLLM):
    """AsyncLLM with a style of thinking, set after its start."""

    style: Style

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **rest: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Like AsyncLLM's; a budget in `extra_args` makes it several segments of generation."""
        budget = (sampling_params.extra_args or {}).get(THINKING)
        if budget is None:
            return super().generate(prompt, sampling_params, request_id, **rest)
        least, most, waits = budget
        forced = Budget(least, None if most < 0 else most, waits)
        return self._forced(prompt, sampling_params, request_id, forced, rest)

    async def _forced(
        self, prompt: Any, params: SamplingParams, name: str, budget: Budget, rest: dict[str, Any]
    ) -> AsyncGenerator[RequestOutput, None]:
        if not isinstance(prompt, dict) or "prompt_token_ids" not in prompt:
            raise VLLMValidationError("a thinking budget needs a prompt of text or token ids")
        streams = params.output_kind == RequestOutputKind.DELTA
        request = _ForcedRequest(self, prompt, params, name, rest)
        runs = [request.completion(index, budget) for index in range(params.n or 1)]
        async with aclosing(merge_async_iterators(*runs)) as merged:
            async for index, chunk in merged:
                request.add(index, chunk)
                if streams and (chunk.text or chunk.ids or chunk.finish):
                    yield request.output([_completion(index, chunk)])
        if not streams:
            yield request.output([_completion(i, chunk) for i, chunk in enumerate(request.sums)])


class _ForcedRequest:
    """One request: its completions, each with its segments in the engine, and their sums."""

    def __init__(
        self, llm: ForcingLLM, prompt: Any, params: SamplingParams, name: str, rest: dict[str, Any]
    ) -> None:
        self.llm = llm
        self.prompt = prompt
        self.params = params
        self.name = name
        self.rest = rest
        self.codec = _codec(llm, params)
        self.sums = [CompletionChunk("", []) for _ in range(params.n or 1)]
        self.first: RequestOutput | None = None  # of the engine: it knows the prompt's logprobs

    async def completion(self, index: int, budget: Budget) -> Chunks:
        """What budget.force makes of completion number `index`."""
        params = self.params
        limits = Limits(
            max_tokens=params.max_tokens or 1,
            min_tokens=params.min_tokens,
            stop=tuple(params.stop or ()),
            stop_ids=tuple(params.stop_token_ids or ()),
            include_stop=params.include_stop_str_in_output,
        )

        def generate(segment: GenerationSegment) -> Chunks:
            return self._segment(index, segment)

        prompt = self.prompt["prompt_token_ids"]
        forced = force(budget, self.llm.style, limits, prompt, self.codec, generate)
        async with aclosing(forced):
            async for chunk in forced:
                if params.logprobs is not None and chunk.extra is None:
                    # inserted: nothing else could have come
                    chunk.extra = [
                        {token: Logprob(0.0, 1, self.codec.decode([token]))} for token in chunk.ids
                    ]
                yield chunk

    async def _segment(self, index: int, segment: GenerationSegment) -> Chunks:
        """One segment of a completion, from the engine."""
        params = vllm_openai.segment_params(self.params, index, segment)
        prompt: Any = {**self.prompt, "prompt_token_ids": segment.prompt}
        prompt.pop("prompt", None)
        name = f"{self.name}_{index}_{segment.number}"
        outputs = AsyncLLM.generate(self.llm, prompt, params, name, **self.rest)
        async with aclosing(outputs):
            async for output in outputs:
                if self.first is None:
                    self.first = output
                for each in output.outputs:
                    logprobs = None if each.logprobs is None else list(each.logprobs)
                    yield CompletionChunk(
                        each.text, list(each.token_ids), each.finish_reason, each.stop_reason,
                        extra=logprobs,
                    )  # fmt: skip

    def add(self, index: int, chunk: CompletionChunk) -> None:
        sum_ = self.sums[index]
        sum_.text += chunk.text
        sum_.ids += chunk.ids
        if chunk.extra is not None:
            sum_.extra = (sum_.extra or []) + list(chunk.extra)
        sum_.finish, sum_.stop = chunk.finish, chunk.stop

    def output(self, completions: list[CompletionOutput]) -> RequestOutput:
        first = self.first
        return RequestOutput(
            request_id=self.name,
            prompt=None,
            prompt_token_ids=self.prompt["prompt_token_ids"],
            prompt_logprobs=first.prompt_logprobs if first else None,
            outputs=completions,
            finished=all(chunk.finish for chunk in self.sums),
            num_cached_tokens=first.num_cached_tokens if first else None,
        )


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
    return _Codec(tokenizer, vllm_openai.end_token_ids(llm), params.skip_special_tokens)


def _completion(index: int, chunk: CompletionChunk) -> CompletionOutput:
    return CompletionOutput(
        index=index,
        text=chunk.text,
        token_ids=chunk.ids,
        cumulative_logprob=None,
        logprobs=chunk.extra,
        finish_reason=chunk.finish,
        stop_reason=chunk.stop,
    )


class ServedEngine(VllmEngine):
    """The sampler's engine with forcing; `llm` is what vLLM's OpenAI layer is built on."""

    def __init__(self, config: EngineConfig, style: Style, adapters: list[Adapter]) -> None:
        super().__init__(config)
        self._style = style
        self._adapters = adapters

    def _class(self) -> Any:
        return ForcingLLM

    def _arguments(self, model: str) -> dict[str, Any]:
        arguments = engine_arguments(self._adapters) | super()._arguments(model)
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
