"""What an engine is: its config, the requests that it takes, the completions that it returns.

The sampler asks an engine for one completion at a time and keeps as many requests open as the
engine has sequence slots. `create` makes the engine that a config names: `limo_ray.engines.vllm`,
`limo_ray.engines.api`, `limo_ray.engines.published`, or one of `limo_ray.engines.scripted` for
tests and simulations.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from limo_ray.core.checks import check_at_least, check_between, check_one_of
from limo_ray.core.errors import LimoError
from limo_ray.core.records import Problem
from limo_ray.engines.api_config import ApiConfig
from limo_ray.engines.published_config import PublishedConfig
from limo_ray.storage import model_files

KINDS = ("vllm", "api", "published", "scripted", "replay")


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    model: str = "???"
    """Local folder, Hugging Face id, or packaged/SmolLM2-135M-Instruct."""
    revision: str = ""
    """Branch, tag or commit of a Hugging Face id; empty for its main branch."""
    kind: str = "vllm"
    """vllm; api (an OpenAI-compatible server); published (a data set of generations); or, for tests
    and benchmarks, scripted (made up) and replay (from an attempt log)."""
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
    url: str = ""
    """Address of the server of kind api, such as http://localhost:8000/v1."""
    api: ApiConfig = field(default_factory=ApiConfig)
    """How the server of kind api is asked."""
    published: PublishedConfig = field(default_factory=PublishedConfig)
    """The data set of kind published; `model` names who made its generations."""
    script: dict[str, Any] = field(default_factory=dict)
    """Settings of the scripted and replay kinds (limo_ray.engines.scripted.ScriptConfig)."""

    def check(self) -> None:
        check_one_of("kind", self.kind, KINDS)
        if self.kind == "api" and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: {self.url!r} must start with http:// or https://")
        if self.kind == "published":
            try:
                self.published.check_given()
            except ValueError as error:
                raise ValueError(f"published.{error}") from None
        check_one_of("device", self.device, ("auto", "gpu", "cpu"))
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
            check_at_least(name, getattr(self, name), 1)
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
        check_at_least("temperature", self.temperature, 0)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} must be in (0, 1]")
        check_between("min_p", self.min_p, 0, 1)
        check_at_least("top_k", self.top_k, 0)
        check_at_least("max_tokens", self.max_tokens, 1)
        if self.loop_count == 1 or self.loop_count < 0 or self.loop_pattern < 1:
            raise ValueError(
                f"loop_count: {self.loop_count} must be 0 (off) or at least 2, "
                f"loop_pattern: {self.loop_pattern} at least 1"
            )


Prompt: TypeAlias = Any
"""What an engine's `render` makes for its own `generate`: token ids, or messages for an API."""


@dataclass(kw_only=True, slots=True)
class Request:
    """One completion to sample: attempt number `index` at `problem`, after `prompt`.

    `prefix`: the token ids that an engine had sampled for this attempt when it was cut off; the
    completion begins with them.
    """

    problem: Problem
    index: int
    prompt: Prompt
    sampling: SamplingConfig
    prefix: list[int] = field(default_factory=list)
    logprobs: bool = False
    """Also return the sampled tokens and their log-probabilities; not with a prefix."""


@dataclass(kw_only=True, slots=True)
class Completion:
    """What came back, the request's prefix included.

    `finish_reason` is stop, length or loop; or cut, after `Engine.cut_off`. `tokens` has ids when
    it was cut (those sampled so far, which a later request takes as its prefix), and when the
    request asked for `logprobs`: then as many log-probabilities, of the distribution sampled from.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class NoAttempt(LimoError):
    """An engine that takes its attempts from a finite set has none of the number asked for."""


class Engine(Protocol):
    async def start(self) -> None:
        """Loads the model. Raises EngineError with the reason when it cannot."""

    def render(self, messages: list[dict[str, str]]) -> Prompt:
        """A chat, ready for its answer, as `generate` takes it."""

    async def generate(self, request: Request) -> Completion:
        """One completion; cancelling aborts it. Raises EngineError when the engine died, NoAttempt
        when it has no attempt of this number."""

    async def cut_off(self) -> None:
        """Ends all open requests: `generate` returns what each has, with the reason cut."""

    def shutdown(self) -> None:
        """Ends the engine's processes. May be called twice, and before `start`."""


class TrainableEngine(Engine, Protocol):
    """An engine whose weights change while it runs: kinds vllm and scripted."""

    async def load_weights(self, folder: str) -> tuple[int, int]:
        """Takes the weights of a model folder; no request may be open.

        Returns how many elements the model's parameters now have and their bit sum
        (`limo_ray.engines.weight_sum`). Raises EngineError when they cannot be loaded.
        """

    async def sleep(self) -> None:
        """Leaves the GPU to others: weights go to host memory, the KV cache is given up.

        No request may be open. Raises EngineError when the engine died.
        """

    async def wake(self) -> None:
        """Takes its part of the GPU again. Raises EngineError when it cannot."""


def create(config: EngineConfig) -> Engine:
    """The engine that a config names, not yet started."""
    # Imported here: each kind's file needs what is above, and most processes need one kind or none.
    if config.kind == "vllm":
        from limo_ray.engines.vllm import VllmEngine

        return VllmEngine(config)
    if config.kind == "api":
        from limo_ray.engines.api import ApiEngine

        return ApiEngine(config)
    if config.kind == "published":
        from limo_ray.engines.published import PublishedEngine

        return PublishedEngine(config)
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
    """A text that differs for engines of different weights, for a sampling fingerprint.

    Raises ValueError for a model that is not found.
    """
    if config.kind == "vllm":
        return model_files.identity(config.model, config.revision)
    if config.kind == "api":
        from limo_ray.engines import api

        return api.identity(config, api.find_model(config))
    if config.kind == "published":
        raise ValueError("kind: published attempts are of use in a curation only")
    return json.dumps([config.kind, config.seed, dict(config.script)], sort_keys=True)
