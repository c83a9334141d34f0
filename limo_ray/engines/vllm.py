"""The engine that samples completions with vLLM. With vllm_internals the only importer of vllm."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from limo_ray.core.errors import EngineError
from limo_ray.engines import continuation, orphan_reaper
from limo_ray.engines.base import Completion, EngineConfig, Request, SamplingConfig
from limo_ray.engines.environment import output_to, set_cpu_environment
from limo_ray.engines.startup_errors import explain
from limo_ray.storage import model_files

REASONS = {"repetition": "loop", "abort": "cut"}  # vLLM's finish reasons that we call otherwise


class VllmEngine:
    """vLLM in this process's event loop, its model in child processes that die with this one.

    vllm is imported by its methods: on CPU it reads environment variables when it is imported.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._vllm: Any = None
        self._tokenizer: Any = None
        self._params: dict[str, Any] = {}
        self._open: set[str] = set()  # names of the requests in the engine
        self._guard: orphan_reaper.Guard | None = None

    async def start(self) -> None:
        """Loads the model (a minute on CPU). Raises EngineError with the reason when it cannot."""
        orphan_reaper.reap_orphans()
        if self.config.device == "cpu":
            set_cpu_environment(self.config)
        self._guard = orphan_reaper.Guard()
        logfile = orphan_reaper.records_folder() / f"{os.getpid()}.log"
        try:
            with output_to(logfile):
                self._load()
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            self._guard.release()
            output = logfile.read_text(errors="replace") if logfile.exists() else ""
            raise EngineError(
                f"engine for {self.config.model} did not start: {explain(str(error), output)}"
            ) from error
        from limo_ray.engines.vllm_internals import ENGINE_LOGGER

        # After the start, which sets all levels anew. From here on what matters is an exception:
        # vLLM logs each step of its end, and an engine's death in pages.
        logging.getLogger("vllm").setLevel(logging.ERROR)
        logging.getLogger(ENGINE_LOGGER).setLevel(logging.CRITICAL)
        self._guard.name_children()

    def _load(self) -> None:
        from transformers import AutoTokenizer
        from vllm import AsyncEngineArgs

        model = model_files.resolve(self.config.model)
        self._vllm = self._class().from_engine_args(AsyncEngineArgs(**self._arguments(model)))
        self._tokenizer = AutoTokenizer.from_pretrained(
            model, revision=self.config.revision or None
        )

    def _class(self) -> Any:
        """The engine's class; a child's may generate in another way."""
        from limo_ray.engines.vllm_internals import AsyncLLM

        return AsyncLLM

    def _arguments(self, model: str) -> dict[str, Any]:
        """Arguments of vllm.AsyncEngineArgs."""
        config = self.config
        spans_nodes = bool(config.bundles) and config.device == "gpu"
        arguments: dict[str, Any] = {
            "model": model,
            "revision": config.revision or None,
            "dtype": config.dtype,
            "tensor_parallel_size": config.tensor_parallel,
            "pipeline_parallel_size": config.pipeline_parallel,
            "max_num_seqs": config.max_num_seqs,
            "max_model_len": config.max_model_len,
            "enforce_eager": config.eager,
            "enable_prefix_caching": True,  # all attempts at a problem share its prompt
            "seed": config.seed,
            "disable_log_stats": True,
            "enable_log_requests": False,
            "distributed_executor_backend": "ray" if spans_nodes else "mp",
            # log-probabilities are those of the distribution that tokens are drawn from
            "logprobs_mode": "processed_logprobs",
            "worker_extension_cls": "limo_ray.engines.weight_sum.WeightSum",
        }
        if config.device == "gpu":
            arguments["gpu_memory_utilization"] = config.gpu_memory
        return arguments | config.extra

    def render(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a chat in the model's own template, ready for its answer."""
        rendered = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return list(rendered["input_ids"])

    async def generate(self, request: Request) -> Completion:
        """One completion; cancelling aborts it. Raises EngineError when the engine died."""
        from limo_ray.engines.vllm_internals import EngineDeadError

        longest = min(request.sampling.max_tokens, self.config.max_model_len - len(request.prompt))
        room = longest - len(request.prefix)
        if room < 1:  # the prompt alone fills the context: every attempt ends here
            return Completion(
                text=self._decode(request.prefix),
                finish_reason="length",
                prompt_tokens=len(request.prompt),
                completion_tokens=len(request.prefix),
            )
        name = f"{request.problem.id}-{request.index}-{id(request)}"
        prompt = request.prompt + request.prefix
        self._open.add(name)
        try:
            async for output in self._vllm.generate(
                {"prompt_token_ids": prompt}, self._sampling(request, room), name
            ):
                last = output
        except EngineDeadError as error:
            raise EngineError(f"engine for {self.config.model} died: {error}") from error
        finally:
            self._open.discard(name)
        answer = last.outputs[0]
        text, reason = answer.text, REASONS.get(answer.finish_reason, answer.finish_reason)
        tokens = [*request.prefix, *answer.token_ids]
        if request.prefix and reason != "cut":
            text, reason, tokens = self._join(request, tokens, reason)
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=len(request.prompt),
            completion_tokens=len(tokens),
            tokens=tokens if reason == "cut" or request.logprobs else [],
            logprobs=_chosen(answer) if request.logprobs else [],
        )

    async def load_weights(self, folder: str) -> tuple[int, int]:
        """See engines.base.TrainableEngine. The folder must be seen by the engine's workers."""
        with _engine_error(f"weights of {folder} not loaded"):
            await self._vllm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            sums = await self._vllm.collective_rpc("weight_sum")
            await self._vllm.reset_prefix_cache()  # it holds what the old weights computed
        return sum(size for size, _ in sums), sum(bits for _, bits in sums) % 2**63

    async def sleep(self) -> None:
        """See engines.base.TrainableEngine; needs `extra: {enable_sleep_mode: true}` and a GPU."""
        with _engine_error(f"engine for {self.config.model} did not sleep"):
            await self._vllm.sleep(level=1)

    async def wake(self) -> None:
        """See engines.base.TrainableEngine."""
        with _engine_error(f"engine for {self.config.model} did not wake"):
            await self._vllm.wake_up()

    async def cut_off(self) -> None:
        """Ends all open requests: `generate` returns what each has, with the reason cut."""
        from limo_ray.engines.vllm_internals import EngineDeadError

        if self._vllm is not None:
            with contextlib.suppress(EngineDeadError):  # its open requests raise it themselves
                await self._vllm.abort(list(self._open))

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _join(self, request: Request, tokens: list[int], reason: str) -> tuple[str, str, list[int]]:
        from limo_ray.engines.vllm_internals import check_sequence_repetition

        loop = _loop_detection(request.sampling)
        return continuation.join(
            request, tokens, reason, self._decode, lambda ids: check_sequence_repetition(ids, loop)
        )

    def _sampling(self, request: Request, room: int) -> Any:
        """vllm.SamplingParams; made once per config where nothing in them is the request's own."""
        config = request.sampling
        shared = self.config.device == "cpu" and room == config.max_tokens
        name = f"{config!r} {request.logprobs}"
        if shared and name in self._params:
            return self._params[name]
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # vLLM's CPU backend cannot seed requests in large batches: the engine is seeded there
        on_cpu = self.config.device == "cpu"
        params = SamplingParams(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            max_tokens=room,
            stop=config.stop or None,
            repetition_detection=_loop_detection(config),
            seed=None if on_cpu else continuation.request_seed(self.config.seed, request),
            output_kind=RequestOutputKind.FINAL_ONLY,
            logprobs=0 if request.logprobs else None,  # 0: of the sampled token alone
        )
        if shared:
            self._params[name] = params
        return params

    def shutdown(self) -> None:
        if self._vllm is not None:
            self._vllm.shutdown()
            self._vllm = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None


@contextlib.contextmanager
def _engine_error(what: str) -> Iterator[None]:
    """vLLM sends an exception of its workers as a bare Exception."""
    try:
        yield
    except Exception as error:
        raise EngineError(f"{what}: {error}") from error


def _chosen(answer: Any) -> list[float]:
    """The log-probability of each sampled token."""
    pairs = zip(answer.token_ids, answer.logprobs, strict=True)
    return [float(by_token[token].logprob) for token, by_token in pairs]


def _loop_detection(config: SamplingConfig) -> Any:
    """vllm.sampling_params.RepetitionDetectionParams, or None where loops may go on."""
    from vllm.sampling_params import RepetitionDetectionParams

    if not config.loop_count:
        return None
    return RepetitionDetectionParams(
        max_pattern_size=config.loop_pattern, min_count=config.loop_count
    )
