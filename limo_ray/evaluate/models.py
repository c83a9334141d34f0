"""Who is evaluated: a model in an engine of our own, or one behind an endpoint; what names its log.

contestants(config, device)      the model, then those that it is compared with
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from limo_ray.core.prompts import question_messages
from limo_ray.core.uris import split
from limo_ray.engines import base as engines
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.sampling.stages import sampling_fingerprint
from limo_ray.storage import model_files

log = logging.getLogger(__name__)

# Of what a server tells of its model, the parts that say which model it is.
TELLING = ("id", "root", "parent", "owned_by", "max_model_len", "revision", "fingerprint")


@dataclass(kw_only=True, slots=True)
class Contestant:
    """One model to evaluate; exactly one of `engine` and `url` is set."""

    label: str
    model: str
    system: str
    engine: EngineConfig | None = None
    url: str = ""
    identity: str = ""
    """Hash of the weights, or what is known of those behind an endpoint."""
    about: dict[str, Any] = field(default_factory=dict)
    """What an endpoint tells of its model."""

    def fingerprint(self, sampling: SamplingConfig) -> str:
        """Names the attempt log that its draws with this sampling lie in."""
        if self.engine is not None:
            dtype, longest = self.engine.dtype, self.engine.max_model_len
        else:
            dtype, longest = "endpoint", int(self.about.get("max_model_len") or 0)
        return sampling_fingerprint(self.identity, self.system, dtype, longest, sampling)

    def identify(self) -> None:
        """Sets `identity` of a model of ours. ValueError for one that cannot be had."""
        if self.engine is not None and not self.identity:
            self.identity = engines.identity(self.engine)

    def recognise(self, about: dict[str, Any], name: str, known: str, asked: list[Any]) -> None:
        """Sets identity and model's name of one behind an endpoint.

        Args:
            about: what the server tells of the model.
            name: the model's name there.
            known: what the config says of its weights, "" for nothing: then the address counts.
            asked: what else of the requests can change what is drawn.
        """
        self.model, self.about = name, about
        told = [self.url, {key: about[key] for key in TELLING if key in about}]
        if known:
            told = [model_files.identity(known) if _is_model(known) else known]
        self.identity = json.dumps(["endpoint", name, asked, *told], sort_keys=True)

    def facts(self) -> dict[str, Any]:
        """Everything about it that can change a score, for results."""
        found: dict[str, Any] = {
            "label": self.label, "model": self.model, "identity": self.identity,
            "system": self.system,
        }  # fmt: skip
        if self.engine is None:
            return found | {"endpoint": self.url, "served": self.about}
        engine = {k: v for k, v in asdict(self.engine).items() if v not in ("", {}, [], None)}
        return found | {"engine": engine, **template(self.engine, self.system)}


def contestants(config: EvaluateConfig, device: str) -> list[Contestant]:
    """The model first, then those of `against`, each with a label of its own."""
    found = [_one(config.model, config.endpoint, config, device)]
    for other in config.against:
        url, _, name = other.partition("#") if is_endpoint(other) else ("", "", other)
        found.append(_one(name, url, config, device))
    label(found)
    return found


def is_endpoint(name: str) -> bool:
    """Whether a name is a server's address, and not a model's folder (s3://...) or id."""
    return name.startswith(("http://", "https://"))


def label(found: list[Contestant]) -> None:
    """Gives each a name that is short and its own."""
    seen: dict[str, int] = {}
    for one in found:
        short = Path(split(one.model)[0]).name
        if one.url:
            host = one.url.partition("://")[2].partition("/")[0]
            short = f"{short} at {host}" if short else host
        seen[short] = seen.get(short, 0) + 1
        one.label = short if seen[short] == 1 else f"{short} ({seen[short]})"


def _one(model: str, url: str, config: EvaluateConfig, device: str) -> Contestant:
    if url:
        return Contestant(label="", model=model, url=url, system=config.system)
    revision = config.engine.revision if model == config.model else ""
    if "@" in model and not model_files.is_local(model):
        model, _, revision = model.partition("@")
    chosen = device if config.engine.device == "auto" else config.engine.device
    engine = replace(config.engine, model=model, revision=revision, device=chosen)
    return Contestant(label="", model=model, engine=engine, system=config.system)


def _is_model(name: str) -> bool:
    return name == model_files.PACKAGED or model_files.is_local(name) or name.count("/") == 1


def template(engine: EngineConfig, system: str) -> dict[str, str]:
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
