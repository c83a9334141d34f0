"""Who is evaluated: a model in an engine of our own, or one at an endpoint; what names its log.

evaluated_models(config, device)     the model, then those that it is compared with
"""

import hashlib
import logging
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from limo_ray.core.prompts import question_messages
from limo_ray.core.uris import redact, split
from limo_ray.engines import api
from limo_ray.engines import base as engines
from limo_ray.engines.api_config import ApiConfig
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.sampling.stages import sampling_fingerprint
from limo_ray.storage import model_files

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class EvaluatedModel:
    """One model to evaluate, in an engine of our own or (kind api) at an endpoint."""

    engine: EngineConfig
    system: str
    label: str = ""
    """A short name, unique among the models of an evaluation."""
    identity: str = ""
    """Hash of the weights, or what is known of those at an endpoint."""
    served: dict[str, Any] = field(default_factory=dict)
    """What an endpoint says of its model."""

    @property
    def name(self) -> str:
        """Folder, hub id, or name at the endpoint; "" for an endpoint's only model."""
        return self.engine.model

    @property
    def at_endpoint(self) -> bool:
        return self.engine.kind == "api"

    def identify(self) -> None:
        """Sets `identity`; asks an endpoint which model it has, and for its name where none is set.

        Raises ValueError for a model of ours, EngineError for one at an endpoint that cannot be
        had.
        """
        if self.at_endpoint:
            self.served = api.find_model(self.engine)
            self.engine = replace(self.engine, model=self.served["id"])
            self.identity = api.identity(self.engine, self.served)
        else:
            self.identity = engines.identity(self.engine)

    def check_length(self, sampling: SamplingConfig) -> None:
        """ValueError when an endpoint says that its context is shorter than completions."""
        longest = self.served.get("max_model_len")
        if isinstance(longest, int) and sampling.max_tokens > longest:
            raise ValueError(
                f"sampling.max_tokens: {sampling.max_tokens} is more than the context of "
                f"{self.name} at {redact(self.engine.url)} ({longest})"
            )

    def fingerprint(self, sampling: SamplingConfig) -> str:
        """Names the log of its attempts with this sampling."""
        dtype, longest = self.engine.dtype, self.engine.max_model_len
        if self.at_endpoint:
            dtype, longest = "endpoint", int(self.served.get("max_model_len") or 0)
        return sampling_fingerprint(self.identity, self.system, dtype, longest, sampling)

    def facts(self) -> dict[str, Any]:
        """Everything about it that can change a score, for results."""
        found: dict[str, Any] = {
            "label": self.label, "model": self.name, "identity": self.identity,
            "system": self.system,
        }  # fmt: skip
        if self.at_endpoint:
            return found | {"endpoint": self.engine.url, "served": self.served}
        engine = {k: v for k, v in asdict(self.engine).items() if v not in ("", {}, [], None)}
        del engine["api"]
        return found | {"engine": engine, **chat_template(self.engine, self.system)}


def evaluated_models(config: EvaluateConfig, device: str) -> list[EvaluatedModel]:
    """The model first, then those of `against`, each with a label of its own."""
    models = [_model(config.model, config.endpoint, config, device)]
    for name in config.against:
        url, _, served_name = name.partition("#") if is_endpoint(name) else ("", "", name)
        models.append(_model(served_name, url, config, device))
    set_labels(models)
    return models


def is_endpoint(name: str) -> bool:
    """Whether a name is a server's address, and not a model's folder (s3://...) or id."""
    return name.startswith(("http://", "https://"))


def set_labels(models: list[EvaluatedModel]) -> None:
    """Gives each a name that is short and its own."""
    seen: dict[str, int] = {}
    for model in models:
        short = Path(split(model.name)[0]).name
        if model.at_endpoint:
            host = redact(model.engine.url).partition("://")[2].partition("/")[0]
            short = f"{short} at {host}" if short else host
        seen[short] = seen.get(short, 0) + 1
        model.label = short if seen[short] == 1 else f"{short} ({seen[short]})"


def _model(name: str, url: str, config: EvaluateConfig, device: str) -> EvaluatedModel:
    if url:
        return EvaluatedModel(engine=_api_engine(name, url, config), system=config.system)
    given = config.engine.revision if name == config.model else ""
    name, revision = model_files.split_revision(name, given)
    chosen = device if config.engine.device == "auto" else config.engine.device
    engine = replace(config.engine, model=name, revision=revision, device=chosen)
    return EvaluatedModel(engine=engine, system=config.system)


def _api_engine(model: str, url: str, config: EvaluateConfig) -> EngineConfig:
    """The engine of an endpoint: one replica without a GPU, on nodes as `engine` asks for."""
    settings = {key.name: getattr(config.client, key.name) for key in fields(ApiConfig)}
    if url != config.endpoint:
        settings["identity"] = ""  # the config's word is for the model's own endpoint
    own = config.engine
    return EngineConfig(
        kind="api", model=model, url=url, api=ApiConfig(**settings), seed=config.seed,
        max_num_seqs=config.client.concurrency, device="cpu", num_cpus=own.num_cpus,
        labels=own.labels, resources=own.resources,
    )  # fmt: skip


def chat_template(engine: EngineConfig, system: str) -> dict[str, str]:
    """Hash of the model's chat template, and the prompt that it makes of a question."""
    if engine.kind != "vllm":
        return {}
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model_files.resolve(engine.model, weights=False), revision=engine.revision or None
        )
        prompt = tokenizer.apply_chat_template(
            question_messages("{question}", system), add_generation_prompt=True, tokenize=False
        )
    except (OSError, ValueError) as error:
        log.warning("the chat template of %s cannot be read: %s", engine.model, error)
        return {}
    text = str(tokenizer.chat_template or "")
    return {"template": hashlib.sha256(text.encode()).hexdigest()[:16], "prompt": str(prompt)}
