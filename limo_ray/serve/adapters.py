"""LoRA adapters (arXiv 2106.09685) that replicas serve beside their base model, by name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limo_ray.core.uris import redact
from limo_ray.storage import model_files

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # sizes of vLLM's buffers (vllm.config.lora)


@dataclass(slots=True, frozen=True)
class Adapter:
    name: str
    """What clients call it."""
    folder: Path
    """In peft's form, on this machine."""
    rank: int
    """Of its matrices."""


def read(named: dict[str, str]) -> list[Adapter]:
    """The adapters of a config, copied to this machine where they are in an object store.

    Raises:
        ValueError: naming the adapter and what is wrong with its folder.
    """
    found = []
    for name, uri in named.items():
        try:
            folder = model_files.resolve_adapter(uri)
        except ValueError as error:
            raise ValueError(f"adapters.{name}: {error}") from error
        file = folder / "adapter_config.json"
        try:
            rank = json.loads(file.read_text())["r"]
        except (ValueError, KeyError, TypeError) as error:
            shown = f"{redact(uri)}/adapter_config.json"
            raise ValueError(f"adapters.{name}: {shown}: is not JSON with a rank `r`") from error
        if type(rank) is not int or not 1 <= rank <= RANKS[-1]:
            raise ValueError(f"adapters.{name}: {file}: r: {rank!r} is not in 1 to {RANKS[-1]}")
        found.append(Adapter(name, folder, rank))
    return found


def engine_arguments(adapters: list[Adapter]) -> dict[str, Any]:
    """Arguments of vllm.AsyncEngineArgs: buffers for all of them at once."""
    if not adapters:
        return {}
    largest = max(adapter.rank for adapter in adapters)
    return {
        "enable_lora": True,
        "max_loras": len(adapters),
        "max_lora_rank": next(rank for rank in RANKS if rank >= largest),
    }
