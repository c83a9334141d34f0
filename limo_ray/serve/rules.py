"""What the gate enforces: who may ask the endpoint, how much, how large."""

import re
from dataclasses import dataclass, field

from limo_ray.serve.keys import Keys

LOCAL = ("", "localhost", "127.0.0.1", "::1")


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """Who may ask the endpoint, how much, and how large."""

    keys_file: str = ""
    """API keys, one per line, as the ingress sees the file (format: limo_ray/serve/keys.py)."""
    keys_env: str = "LIMO_RAY_API_KEYS"
    """Environment variable with further keys; with neither, everybody may ask."""
    rpm: int = 0
    """Requests per minute of each key, per ingress replica; 0 for no limit."""
    tpm: int = 0
    """Tokens per minute (prompt and completion) of each key, per ingress replica; 0: no limit."""
    reserve_tokens: int = 2048
    """Completion tokens set aside for a request that names no max_tokens, until it is done."""
    max_concurrent: int = 256
    """Requests that the engine may have at once, per ingress replica."""
    max_queue: int = 512
    """Requests that may wait for that, keys in turn; one more gets 429."""
    max_wait_s: float = 300.0
    """Seconds after which a waiting request gets 429."""
    max_body_bytes: int = 2 * 2**20
    """Largest body of a request; 2 * (max_concurrent + max_queue) of them may be in memory."""
    body_timeout_s: float = 30.0
    """Seconds that a body may take to arrive."""
    max_tokens: int = 131_072
    """Largest max_tokens that a request may name."""
    max_n: int = 64
    """Most completions of one request: n, times the number of prompts."""
    max_messages: int = 1024
    """Most messages of a chat."""
    max_depth: int = 64
    """Deepest nesting of a request's JSON."""
    metrics_open: bool = True
    """/metrics needs no key."""
    access_log: str = ""
    """File for a line per request; empty for the ingress's stderr, kept in Ray's session logs."""
    cors_origins: list[str] = field(default_factory=list)
    """Origins whose pages may call the endpoint from a browser; ["*"] for all, [] for none."""

    def check(self) -> None:
        for name in ("rpm", "tpm", "max_queue"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} must not be negative")
        for name in (
            "reserve_tokens", "max_concurrent", "max_wait_s", "max_body_bytes", "body_timeout_s",
            "max_tokens", "max_n", "max_messages", "max_depth",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")
        if self.keys_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.keys_env):
            raise ValueError(f"keys_env: {self.keys_env} is not a variable's name")
        if self.max_depth > 256:  # what is behind the gate walks through it recursively
            raise ValueError(f"max_depth: {self.max_depth} must be at most 256")
        for origin in self.cors_origins:
            if origin != "*" and not re.fullmatch(r"https?://[^\s/]+", origin):
                raise ValueError(f"cors_origins: {origin} is not like https://host:port")


def exposed(keys: Keys, host: str) -> str | None:
    """The warning to print where `host` is reached by others and no key is asked for."""
    if keys.required or host in LOCAL:
        return None
    return f"no API keys: everybody who reaches {host} may use this endpoint (gate.keys_file)"
