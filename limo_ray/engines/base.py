"""The engine that draws completions: vLLM's AsyncLLM. The only file that imports vllm.

`Sampler` asks an engine for one completion at a time and keeps as many requests open as the
engine has sequence slots. An engine has five methods (`start`, `render`, `generate`, `cut_off`,
`shutdown`); `limo_ray.engines.scripted` has another one for tests and simulations.
"""

import contextlib
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from limo_ray.core.errors import EngineError
from limo_ray.core.records import Problem
from limo_ray.engines import orphan_reaper
from limo_ray.engines.startup_errors import explain
from limo_ray.storage import model_files

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    model: str = "???"
    """Local folder, Hugging Face id, or packaged/SmolLM2-135M-Instruct."""
    revision: str = ""
    """Branch, tag or commit of a Hugging Face id; empty for its main branch."""
    kind: str = "vllm"
    """vllm; or, for tests and benchmarks, scripted (made up) and replay (from an attempt log)."""
    device: str = "auto"
    """auto (gpu where the Ray cluster has one, else cpu), gpu, or cpu."""
    dtype: str = "auto"
    """auto, bfloat16, float16 or float32. bfloat16 is twice as fast as float32 on CPU."""
    tensor_parallel: int = 1
    """GPUs over which each replica is split."""
    pipeline_parallel: int = 1
    """Pipeline stages of each replica; more than one node needs `bundles`."""
    min_replicas: int = 1
    """Engines that the job starts with and keeps."""
    max_replicas: int = 1
    """Engines that the job may grow to when the cluster has room."""
    max_num_seqs: int = 256
    """Sequences decoded at once, per replica."""
    max_model_len: int = 32768
    """Longest prompt plus completion, in tokens."""
    gpu_memory: float = 0.9
    """Share of each GPU's memory that the engine may take."""
    kv_cache_gib: int = 4
    """Memory for the KV cache on CPU, in whole GiB."""
    cpu_threads: str = ""
    """Cores for the CPU engine, such as 0-1; empty for all that this process may use."""
    eager: bool = False
    """Skip torch.compile and CUDA graphs. On CPU compilation costs 100 s and gives nothing."""
    num_cpus: float = 1.0
    """Logical Ray CPUs of each replica."""
    resources: dict[str, float] = field(default_factory=dict)
    """Further Ray resources that a replica asks for, such as {sampler: 1}."""
    labels: dict[str, str] = field(default_factory=dict)
    """Node labels that a replica asks for: {role: sampler}; {role: "!trainer"} is any other node,
    also one without such a label; {role: "in(sampler, any)"}."""
    bundles: list[dict[str, float]] = field(default_factory=list)
    """Explicit placement group of each replica, for engines that span nodes."""
    bundle_strategy: str = "PACK"
    """PACK, STRICT_PACK, SPREAD or STRICT_SPREAD."""
    seed: int = 0
    """Seeds the engine on CPU and each request on GPU."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Passed to vllm.AsyncEngineArgs as it is."""
    script: dict[str, Any] = field(default_factory=dict)
    """Settings of the scripted and replay kinds (limo_ray.engines.scripted.ScriptConfig)."""

    def check(self) -> None:
        if self.kind not in ("vllm", "scripted", "replay"):
            raise ValueError(f"kind: {self.kind!r} is none of vllm, scripted, replay")
        if self.device not in ("auto", "gpu", "cpu"):
            raise ValueError(f"device: {self.device!r} is none of auto, gpu, cpu")
        if self.dtype not in ("auto", "bfloat16", "float16", "float32"):
            raise ValueError(f"dtype: {self.dtype!r} is none of auto, bfloat16, float16, float32")
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas: {self.min_replicas} must be between 1 and "
                f"max_replicas ({self.max_replicas})"
            )
        for name in (
            "tensor_parallel", "pipeline_parallel", "max_num_seqs", "max_model_len", "kv_cache_gib",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if not 0 < self.gpu_memory <= 1:
            raise ValueError(f"gpu_memory: {self.gpu_memory} must be in (0, 1]")
        if self.kind == "vllm" and model_files.is_local(self.model) and "://" not in self.model:
            try:
                model_files.resolve(self.model)
            except ValueError as error:
                raise ValueError(f"model: {error}") from None


@dataclass(kw_only=True, slots=True)
class SamplingConfig:
    temperature: float = 0.6
    """0 is greedy."""
    top_p: float = 0.95
    """Nucleus: 1 for all tokens."""
    top_k: int = 0
    """0 for all tokens."""
    min_p: float = 0.0
    """0 for none."""
    max_tokens: int = 32768
    """Longest completion, in tokens."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a completion."""
    loop_count: int = 0
    """End a completion whose last tokens are one pattern this many times over; 0 never does."""
    loop_pattern: int = 64
    """Longest such pattern, in tokens."""

    def check(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature: {self.temperature} must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} must be in (0, 1]")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p: {self.min_p} must be in [0, 1]")
        if self.top_k < 0:
            raise ValueError(f"top_k: {self.top_k} must not be negative (0 is off)")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: {self.max_tokens} must be at least 1")
        if self.loop_count == 1 or self.loop_count < 0 or self.loop_pattern < 1:
            raise ValueError(
                f"loop_count: {self.loop_count} must be 0 (off) or at least 2, "
                f"loop_pattern: {self.loop_pattern} at least 1"
            )


@dataclass(kw_only=True, slots=True)
class Request:
    """One completion to draw: draw number `index` of `problem`, after `prompt` (token ids).

    `prefix` is how the completion begins, if an engine that was cut off had drawn that much.
    """

    problem: Problem
    index: int
    prompt: list[int]
    sampling: SamplingConfig
    prefix: list[int] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Completion:
    """What came back, the request's prefix included. `finish_reason`: stop, length, or loop.

    Or cut, after `Engine.cut_off`: then `tokens` are the ids drawn so far, from which a request can
    go on; otherwise they are left empty.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: list[int] = field(default_factory=list)


class Engine(Protocol):
    async def start(self) -> None: ...

    def render(self, messages: list[dict[str, str]]) -> list[int]: ...

    async def generate(self, request: Request) -> Completion: ...

    async def cut_off(self) -> None: ...

    def shutdown(self) -> None: ...


def create(config: EngineConfig) -> Engine:
    """The engine that a config names, not yet started."""
    if config.kind == "vllm":
        return VllmEngine(config)
    from limo_ray.engines.scripted import ReplayEngine, ScriptedEngine

    return ScriptedEngine(config) if config.kind == "scripted" else ReplayEngine(config)


def ray_options(config: EngineConfig) -> dict[str, Any]:
    """What a replica asks of Ray: logical CPUs, and, without bundles of its own, GPUs and nodes."""
    asked: dict[str, Any] = {"num_cpus": config.num_cpus}
    if config.bundles:
        return asked
    if config.device == "gpu":
        asked["num_gpus"] = config.tensor_parallel * config.pipeline_parallel
    if config.resources:
        asked["resources"] = dict(config.resources)
    if config.labels:
        asked["label_selector"] = dict(config.labels)
    return asked


def identity(config: EngineConfig) -> str:
    """What tells an engine's weights from others, for a sampling fingerprint.

    Raises ValueError for a model that cannot be had.
    """
    if config.kind == "vllm":
        return model_files.identity(config.model, config.revision)
    return json.dumps([config.kind, config.seed, dict(config.script)], sort_keys=True)


class VllmEngine:
    """vLLM in this process's event loop, its model in child processes that die with this one."""

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
            _cpu_environment(self.config)
        logfile = orphan_reaper.records_folder() / f"{os.getpid()}.log"
        try:
            with _child_output(logfile):
                from transformers import AutoTokenizer
                from vllm import AsyncEngineArgs

                model = model_files.resolve(self.config.model)
                arguments = AsyncEngineArgs(**self._arguments(model))
                self._vllm = self._class().from_engine_args(arguments)
                self._tokenizer = AutoTokenizer.from_pretrained(
                    model, revision=self.config.revision or None
                )
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            output = logfile.read_text(errors="replace") if logfile.exists() else ""
            raise EngineError(
                f"engine for {self.config.model} did not start: {explain(str(error), output)}"
            ) from error
        # After the start, which sets all levels anew. From here on what matters is an exception:
        # vLLM tells each step of its end, and an engine's death (EngineDeadError) in pages.
        logging.getLogger("vllm").setLevel(logging.ERROR)
        logging.getLogger("vllm.v1.engine.async_llm").setLevel(logging.CRITICAL)
        self._guard = orphan_reaper.Guard()

    def _class(self) -> Any:
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM

    def _arguments(self, model: str) -> dict[str, Any]:
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
        from vllm.v1.engine.exceptions import EngineDeadError

        whole = min(request.sampling.max_tokens, self.config.max_model_len - len(request.prompt))
        room = whole - len(request.prefix)
        if room < 1:  # the prompt alone fills the context: no completion can be had, ever
            return Completion(
                text=self._tokenizer.decode(request.prefix, skip_special_tokens=True),
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
        reasons = {"repetition": "loop", "abort": "cut"}
        text, reason = answer.text, reasons.get(answer.finish_reason, answer.finish_reason)
        tokens = [*request.prefix, *answer.token_ids]
        if request.prefix and reason != "cut":
            text, reason, tokens = self._joined(request, tokens, reason)
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=len(request.prompt),
            completion_tokens=len(tokens),
            tokens=tokens if reason == "cut" else [],
        )

    async def cut_off(self) -> None:
        """Ends all open requests: `generate` returns what each has, with the reason cut."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if self._vllm is not None:
            with contextlib.suppress(EngineDeadError):  # its draws are told so themselves
                await self._vllm.abort(list(self._open))

    def _joined(
        self, request: Request, tokens: list[int], reason: str
    ) -> tuple[str, str, list[int]]:
        """A continued completion as an uninterrupted one would have ended.

        vLLM looks for loops and stop strings in what it drew itself: one across the seam is found
        here, and what was drawn past it is taken off.
        """
        from vllm.sampling_params import RepetitionDetectionParams
        from vllm.v1.core.sched.utils import check_sequence_repetition

        config = request.sampling
        if config.loop_count:
            loop = RepetitionDetectionParams(
                max_pattern_size=config.loop_pattern, min_count=config.loop_count
            )
            seen = len(request.prefix) + config.loop_pattern * config.loop_count
            for end in range(len(request.prefix) + 1, min(seen, len(tokens)) + 1):
                if check_sequence_repetition(tokens[:end], loop):
                    tokens, reason = tokens[:end], "loop"
                    break
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        found = [place for stop in config.stop if (place := text.find(stop)) >= 0]
        if found:
            text, reason = text[: min(found)], "stop"
        return text, reason, tokens

    def _sampling(self, request: Request, room: int) -> Any:
        """vLLM's parameters; made once per config where nothing in them is the request's own."""
        config = request.sampling
        shared = self.config.device == "cpu" and room == config.max_tokens
        if shared and repr(config) in self._params:
            return self._params[repr(config)]
        from vllm import SamplingParams
        from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind

        loop = None
        if config.loop_count:
            loop = RepetitionDetectionParams(
                max_pattern_size=config.loop_pattern, min_count=config.loop_count
            )
        params = SamplingParams(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            max_tokens=room,
            stop=config.stop or None,
            repetition_detection=loop,
            # vLLM's CPU backend cannot seed requests in large batches: the engine is seeded there
            seed=None if self.config.device == "cpu" else _seed(self.config.seed, request),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        if shared:
            self._params[repr(config)] = params
        return params

    def shutdown(self) -> None:
        if self._vllm is not None:
            self._vllm.shutdown()
            self._vllm = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None


def _seed(seed: int, request: Request) -> int:
    """31 bits that belong to one draw alone, and to where it goes on.

    The random numbers that made the prefix must not come again after it: the rest would depend on
    it by more than its text.
    """
    text = f"{seed}:{request.problem.id}:{request.index}"
    if request.prefix:
        text += f":{len(request.prefix)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _cpu_environment(config: EngineConfig) -> None:
    """Both cores for decoding: vLLM's default keeps one for itself, and OpenMP must be preloaded.

    Together the two double the tokens per second of a two-core machine.
    """
    threads = config.cpu_threads or ",".join(map(str, sorted(os.sched_getaffinity(0))))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = threads
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.kv_cache_gib)
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.exists() and "libiomp" not in os.environ.get("LD_PRELOAD", ""):
        preload = [str(openmp), os.environ.get("LD_PRELOAD", "")]
        os.environ["LD_PRELOAD"] = ":".join(filter(None, preload))


@contextlib.contextmanager
def _child_output(path: Path) -> Iterator[None]:
    """Processes started meanwhile write to a file, where the cause of a failed start is found."""
    saved = os.dup(1), os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, file):
            os.close(descriptor)
