"""LoRA adapters (arXiv 2106.09685): made around a model, written as adapters, merged into it.

With `lora.bits: 4` the base is kept in 4 bits (NF4, double quantisation: QLoRA, arXiv 2305.14314).
bitsandbytes does that; it is an optional dependency.
"""

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limo_ray.train.config import LoraConfig

BYTES_4BIT = 0.5 + 1 / 64 + 4 / 64 / 256  # NF4, a byte per 64 weights, a float per 256 bytes


def wrap(lm: Any, lora: LoraConfig) -> Any:
    """The peft model around a transformers model."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    return get_peft_model(
        lm,
        PeftConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
            target_modules=list(lora.modules), task_type="CAUSAL_LM",
        ),
        autocast_adapter_dtype=False,
    )  # fmt: skip


def check_installed(lora: LoraConfig | None) -> None:
    """ValueError where a 4-bit base is asked for and bitsandbytes is not here."""
    if lora and lora.bits == 4 and find_spec("bitsandbytes") is None:
        raise ValueError("lora.bits: 4 needs bitsandbytes: install limo_ray[train,qlora]")


def quantization(lora: LoraConfig | None, dtype: torch.dtype) -> Any:
    """transformers' config for loading the base in 4 bits; None for a base as it is."""
    if lora is None or lora.bits == 16:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip


def merged(weights: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """A peft model's weights as the base model's: W + scale x B A where there is an adapter."""
    plain: dict[str, Tensor] = {}
    for name, value in weights.items():
        if ".lora_" in name:
            continue
        own = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        stem = name.removesuffix(".base_layer.weight")
        down = weights.get(f"{stem}.lora_A.default.weight")
        up = weights.get(f"{stem}.lora_B.default.weight")
        if stem != name and down is not None and up is not None:
            value = (value.float() + scale * (up.float() @ down.float())).to(value.dtype)
        plain[own] = value
    return plain


def as_saved(weights: dict[str, Tensor], base: Any) -> dict[str, Tensor]:
    """The adapters among a peft model's weights, with `base`'s own, as `merged` takes them.

    `base` is the transformers model with weights of full size: those of a 4-bit one stay where
    they are, and the adapters are merged into the weights that they were made from.
    """
    found = {name: value for name, value in weights.items() if ".lora_" in name}
    adapted = {name.partition(".lora_")[0] for name in found}
    for name, value in base.state_dict().items():
        stem, _, kind = f"base_model.model.{name}".rpartition(".")
        found[f"{stem}.base_layer.{kind}" if stem in adapted else f"{stem}.{kind}"] = value
    return found


def save(folder: Path, lm: Any, weights: dict[str, Tensor], base: str, revision: str) -> None:
    """Writes peft's folder of an adapter: adapter_config.json and adapter_model.safetensors.

    Args:
        lm: the peft model.
        weights: of `lm`, in host memory, by its names.
        base: the model that the adapter belongs to, as the config names it.
        revision: of a hub id.
    """
    from safetensors.torch import save_file

    tensors = {
        name.replace(".default.", "."): value.contiguous()
        for name, value in weights.items()
        if ".lora_" in name
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy.copy(lm.peft_config["default"])
    config.base_model_name_or_path = base
    config.revision = revision or None
    config.inference_mode = True
    config.save_pretrained(folder)
