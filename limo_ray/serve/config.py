"""The config of jobs/serve.py and `serve run`: model, engine, replicas, budget, gate."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from limo_ray.core.prompts import SYSTEM
from limo_ray.engines.base import EngineConfig
from limo_ray.problems import inputs
from limo_ray.serve import adapters
from limo_ray.serve.budget import Style


def _engine() -> EngineConfig:
    return EngineConfig(model="${model}")


@dataclass(kw_only=True, slots=True)
class BudgetConfig:
    """Budget forcing: see limo_ray/serve/budget.py."""

    min_thinking_tokens: int = 0
    """For requests that do not say: the least thinking, in tokens."""
    max_thinking_tokens: int = -1
    """For requests that do not say: the most thinking, in tokens; -1 for no limit."""
    waits: int = 0
    """For requests that do not say: how often an end of thinking becomes a "Wait"."""
    most_waits: int = 16
    """What a request may ask for at most."""
    style: Style = field(default_factory=Style)
    """The marks of the model's thinking and what is put in."""

    def check(self) -> None:
        if self.min_thinking_tokens < 0:
            raise ValueError(
                f"min_thinking_tokens: {self.min_thinking_tokens} must not be negative"
            )
        if self.max_thinking_tokens < -1:
            raise ValueError(
                f"max_thinking_tokens: {self.max_thinking_tokens} must be -1 (no limit) or more"
            )
        if 0 <= self.max_thinking_tokens < self.min_thinking_tokens:
            raise ValueError(
                f"max_thinking_tokens: {self.max_thinking_tokens} is below "
                f"min_thinking_tokens ({self.min_thinking_tokens})"
            )
        if not 0 <= self.waits <= self.most_waits:
            raise ValueError(
                f"waits: {self.waits} must be between 0 and most_waits ({self.most_waits})"
            )


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """Who may use the endpoint, how much, and how large requests may be."""

    keys_file: str = ""
    """API keys, one per line, as the ingress sees the file (limo_ray/serve/api_keys.py)."""
    keys_env: str = "LIMO_RAY_API_KEYS"
    """Environment variable with further keys; with neither, no key is required."""
    rpm: int = 0
    """Requests per minute of each key, per ingress replica; 0 for no limit."""
    max_concurrent: int = 256
    """Requests that the engines may have at once, per ingress replica."""
    max_queue: int = 512
    """Requests that may wait for that, or send their body; one more gets 429."""
    max_wait_s: float = 300.0
    """Seconds after which a waiting request gets 429."""
    max_body_bytes: int = 2 * 2**20
    """Largest body of a request; max_concurrent + max_queue of them may be in memory."""
    body_timeout_s: float = 30.0
    """Seconds that a body may take to arrive."""
    header_timeout_s: float = 10.0
    """Seconds that a new connection may take to send a request's header (jobs/serve.py)."""
    max_connections_per_address: int = 1024
    """Connections from one IP address (jobs/serve.py); at the limit, idle ones give way to new."""
    max_tokens: int = 131_072
    """Largest max_tokens that a request may name."""
    max_n: int = 64
    """Most completions of one request: n, times the number of prompts."""
    max_messages: int = 1024
    """Most messages of a chat."""
    max_depth: int = 64
    """Deepest nesting of a request's JSON."""
    metrics_open: bool = True
    """/metrics needs no key, and then leaves out the names of keys."""

    def check(self) -> None:
        for name in ("rpm", "max_queue"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")
        for name in (
            "max_concurrent", "max_wait_s", "max_body_bytes", "body_timeout_s", "header_timeout_s",
            "max_connections_per_address", "max_tokens", "max_n", "max_messages", "max_depth",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")
        if self.keys_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.keys_env):
            raise ValueError(f"keys_env: {self.keys_env} is not a variable's name")
        if self.max_depth > 256:  # what is behind the gate walks through it recursively
            raise ValueError(f"max_depth: {self.max_depth} must be at most 256")


@dataclass(kw_only=True, slots=True)
class ServeConfig:
    name: str = "???"
    """Of the Serve application."""
    model: str = "???"
    """Local folder, Hugging Face id, or packaged/SmolLM2-135M-Instruct."""
    served_name: str = ""
    """What clients call the model; empty for the folder's name or the Hugging Face id."""
    adapters: dict[str, str] = field(default_factory=dict)
    """LoRA adapters of the model: the name that clients call each, and its folder in peft's form
    (a training's `<store>/adapters/<name>`), local or in an object store."""
    system: str = SYSTEM
    """System prompt of chats that bring none; the recipe's by default, empty for none."""
    engine: EngineConfig = field(default_factory=_engine)
    """vLLM: device, dtype, lengths, parallelism, resources, and the number of replicas."""
    reasoning_parser: str = ""
    """vLLM's parser that separates thinking from answer in chats; empty: both are in `content`."""
    host: str = "127.0.0.1"
    """Address that jobs/serve.py listens on; 0.0.0.0 for all."""
    port: int = 8000
    """Port that jobs/serve.py listens on."""
    ongoing: int = 0
    """Requests that keep a replica busy; 0 for the engine's max_num_seqs."""
    scale_at: float = 0.7
    """Replicas are added when each has more than this share of `ongoing`."""
    stream_tokens: int = 8
    """Tokens in one event of a stream at most: one while few requests run, more under load."""
    routing: str = "prefix"
    """With several replicas: prefix (the one that saw the prompt's beginning) or balanced."""
    accept_s: float = 30.0
    """Longest wait for a replica that takes a request; then 503."""
    drain_s: float = 60.0
    """Time that running requests have to end when the endpoint stops."""
    starts: int = 2
    """How often a replica may fail to start before the application is given up."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """Budget forcing."""
    gate: GateConfig = field(default_factory=GateConfig)
    """Keys, limits, queue, metrics, log."""

    def check(self) -> None:
        if self.routing not in ("prefix", "balanced"):
            raise ValueError(f"routing: {self.routing!r} is none of prefix, balanced")
        if not 0 < self.port < 65536:
            raise ValueError(f"port: {self.port} must be between 1 and 65535")
        if not 0 < self.scale_at <= 1:
            raise ValueError(f"scale_at: {self.scale_at} must be in (0, 1]")
        if self.model_name in self.adapters:
            raise ValueError(f"adapters.{self.model_name}: the model itself is called so")
        adapters.read({name: uri for name, uri in self.adapters.items() if "://" not in uri})
        if self.engine.kind != "vllm":
            raise ValueError(f"engine.kind: {self.engine.kind!r}: only vllm is served")
        for name in ("accept_s", "drain_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")
        for name in ("starts", "stream_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        if self.ongoing < 0:
            raise ValueError(f"ongoing: {self.ongoing} must not be negative (0 is max_num_seqs)")

    def inputs(self) -> list[inputs.Input]:
        """What it needs from elsewhere."""
        model = inputs.of_model(self.engine.model, self.engine.revision)
        folders = self.adapters.values()
        return [model, *(inputs.Input(what="adapter", name=uri, place="file") for uri in folders)]

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        if self.served_name:
            return self.served_name
        local = Path(self.model).expanduser()
        return local.resolve().name if local.is_dir() else self.model

    @property
    def slots(self) -> int:
        """Requests that keep one replica busy."""
        return self.ongoing or self.engine.max_num_seqs
