"""How an OpenAI-compatible server is asked: patience, key, identity, further fields."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limo_ray.core.checks import check_at_least, check_between

SECRET = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)  # of a header's name


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """A provider's batch interface (files and batches, as OpenAI's)."""

    requests: int = 0
    """Most requests of one batch, such as 2000: their completions are held in memory. The engine's
    max_num_seqs says how many are under way. 0 asks one by one, at once."""
    collect_s: float = 10.0
    """Seconds without a new request after which a smaller batch is submitted."""
    poll_s: float = 60.0
    """Seconds between two looks at a batch."""
    settle_s: float = 30.0
    """Seconds after which a batch that the server took is in its list. So long a job waits before
    it submits a batch again whose answer never came."""
    window: str = "24h"
    """Within which the provider promises the results."""
    tries: int = 3
    """Batches in which a request may stay without an answer."""
    price_share: float = 0.5
    """What a request in a batch costs of the price."""
    folder: str = ""
    """Where batches are noted; the job fills it in."""

    def check(self) -> None:
        check_at_least("requests", self.requests, 0)
        check_at_least("tries", self.tries, 1)
        check_between("price_share", self.price_share, 0, 1)
        for name in ("collect_s", "poll_s", "settle_s"):
            check_at_least(name, getattr(self, name), 0)


@dataclass(kw_only=True, slots=True)
class ApiConfig:
    timeout_s: float = 3600.0
    """Seconds that one completion may take; 32,768 tokens at 20 tokens/s are half an hour."""
    attempts: int = 16
    """Tries of one request that fails, before it is given up (with the default waits after ten
    minutes). While the server answers other requests, a failing one is tried further."""
    wait_s: float = 1.0
    """Seconds before the second try; doubled before each further one, within `longest_wait_s`."""
    longest_wait_s: float = 60.0
    """A server's Retry-After counts up to ten times this."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key, on the job's machine and where samplers run;
    nothing is sent when it is not set."""
    key_file: str = ""
    """File that holds the API key; goes before the variable."""
    identity: str = ""
    """What tells the weights behind the server from others: a model folder or hub id (its hash is
    taken), or any word. Without it attempts are logged under the address and what the server says
    of its model: start anew (another store) when other weights move in under the same name."""
    extensions: bool = True
    """Send vLLM's own fields (top_k, min_p, repetition_penalty), so that defaults that the server
    takes from the model do not apply. false for servers that refuse them."""
    seeds: bool = False
    """Send a seed with each request. vLLM on a CPU cannot take them in large batches."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every request. `$NAME` takes the value of an environment variable; a
    header for a key or token must."""
    body: dict[str, Any] = field(default_factory=dict)
    """Further fields of every request, such as a thinking budget; part of the log's name."""
    input_price: float = 0.0
    """Dollars per million prompt tokens, for the job's cost and its sampler.spend_cap."""
    output_price: float = 0.0
    """Dollars per million completion tokens."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Requests in batches, which cost half and take hours."""

    @property
    def paid(self) -> bool:
        """Whether attempts cost something."""
        return self.input_price > 0 or self.output_price > 0

    def dollars(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What attempts with so many tokens cost."""
        share = self.batch.price_share if self.batch.requests else 1.0
        whole = self.input_price * prompt_tokens + self.output_price * completion_tokens
        return share * whole / 1e6

    def check(self) -> None:
        check_at_least("attempts", self.attempts, 1)
        for name in ("input_price", "output_price"):
            check_at_least(name, getattr(self, name), 0)
        for name, value in self.headers.items():
            if SECRET.search(name) and not value.startswith("$"):
                raise ValueError(
                    f"headers.{name}: a secret in the config; put it into an environment variable "
                    "and give its name, as $NAME"
                )
        for name in ("timeout_s", "wait_s", "longest_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be positive")

    def sent_headers(self) -> dict[str, str]:
        """The headers with the values of their variables. ValueError for one that is not set."""
        found = {}
        for name, value in self.headers.items():
            if value.startswith("$"):
                if value[1:] not in os.environ:
                    raise ValueError(f"headers.{name}: the variable {value} is not set")
                value = os.environ[value[1:]]
            found[name] = value
        return found

    def key(self) -> str:
        """The API key, or "". ValueError, without the key, for one that cannot be read or sent."""
        name = f"key_file: {self.key_file!r}" if self.key_file else f"${self.key_variable}"
        if not self.key_file:
            key = os.environ.get(self.key_variable, "").strip()
        else:
            try:
                key = Path(self.key_file).expanduser().read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"client.{name}: {error}") from error
        if not (key.isascii() and (key.isprintable())):
            raise ValueError(f"client.{name}: the key must be one line of ASCII text")
        return key
