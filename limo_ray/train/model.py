"""The model that is trained: loaded in pieces under ZeRO-3, with our attention and our loss."""

import contextlib
import types
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from limo_ray.train import adapters, attention, loss
from limo_ray.train.batches import IGNORED, TokenRow
from limo_ray.train.config import TrainConfig

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
CAPPED = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class LossModel(nn.Module):
    """A causal language model whose forward pass is the summed loss of the learned tokens."""

    def __init__(self, lm: Any, config: TrainConfig) -> None:
        """`lm` is a transformers model, or a peft model around one."""
        super().__init__()
        self.lm = lm
        self.inner = [lm.get_base_model() if config.lora else lm]  # in a list: no second child
        self.full = config.compute.cross_entropy == "full"
        self.dft = config.loss == "dft"
        self.offload = config.compute.offload_activations
        self.seed = config.seed
        if not self.full:
            head = self.inner[0].get_output_embeddings()
            head.forward = types.MethodType(_head_loss, head)  # inside its own hooks: ZeRO-3
            head.chunk = config.compute.chunk

    def forward(self, ids: Tensor, positions: Tensor, labels: Tensor, **packed: Any) -> Tensor:
        """Sum of the losses of this worker's learned tokens, in float32.

        Outside training it is the cross entropy, whatever the training's loss.
        """
        model = self.inner[0]
        with _saved_on_host() if self.offload else contextlib.nullcontext():
            hidden = model.base_model(
                input_ids=ids, position_ids=positions, use_cache=False, **packed
            ).last_hidden_state
        learned = labels != IGNORED
        dft = self.dft and self.training
        if self.full:
            logits = model.get_output_embeddings()(hidden)
            entropies = cross_entropy(
                logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED,
                reduction="none",
            )  # fmt: skip
            return (entropies * entropies.detach().neg().exp() if dft else entropies).sum()
        head = model.get_output_embeddings()
        summed: Tensor = head(hidden[learned], labels[learned], dft)
        return summed


def _head_loss(self: Any, hidden: Tensor, labels: Tensor, dft: bool = False) -> Tensor:
    return loss.chunked(hidden, self.weight, labels, self.chunk, dft)


def _saved_on_host() -> Any:
    return torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())


def refuse(model_config: Any, config: TrainConfig) -> None:
    """ValueError, beginning with the config's key, for a model that this cannot train rightly."""
    why = attention.refusal(model_config)
    if why:
        raise ValueError(f"model: {config.model!r} cannot be trained here: {why}")
    if config.compute.cross_entropy == "chunked":
        capped = [name for name in CAPPED if getattr(model_config, name, None) not in (None, 1.0)]
        if capped:
            raise ValueError(
                f"compute.cross_entropy: chunked does not know this model's {capped[0]}"
            )
    elif any(getattr(model_config, name, None) not in (None, 1.0) for name in CAPPED):
        raise ValueError(f"model: {config.model!r} scales or caps its logits: not supported")
    shared = config.compute.sequence_parallel
    heads = model_config.num_attention_heads
    for name in ("num_attention_heads", "num_key_value_heads"):
        count = getattr(model_config, name, None) or heads
        if count % shared:
            raise ValueError(
                f"compute.sequence_parallel: {shared} does not divide the model's {name} ({count})"
            )
    longest = getattr(model_config, "max_position_embeddings", None)
    if longest and config.rows.max_tokens > longest:
        raise ValueError(
            f"rows.max_tokens: {config.rows.max_tokens} is more than the model's positions "
            f"({longest})"
        )


def load(
    model: str, config: TrainConfig, sharing: dist.ProcessGroup | None, kind: Any = LossModel
) -> LossModel:
    """The model, ready for `deepspeed.initialize`, as a LossModel or a child of it.

    Under ZeRO-3 (an HfDeepSpeedConfig is alive) each parameter is spread as soon as it is read.
    """
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(
        model,
        revision=config.revision or None,
        dtype=DTYPES[config.compute.precision],
        attn_implementation=attention.register(sharing),
        quantization_config=adapters.quantization(config.lora, DTYPES[config.compute.precision]),
    )
    return wrap(lm, config, kind)


def wrap(lm: Any, config: TrainConfig, kind: Any = LossModel) -> LossModel:
    """A loaded (or meta) model as a LossModel: adapters, recomputing, training mode."""
    lm.config.use_cache = False
    if config.lora:
        lm = adapters.wrap(lm, config.lora)
    if config.compute.recompute:
        # the reentrant kind: ZeRO-3 gives parameters back between forward and recomputing, which
        # the other takes for a change of their shape
        lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        lm.enable_input_require_grads()
    lm.train()
    made: LossModel = kind(lm, config)
    return made


def decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, norms and biases do not."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 leaves it empty
            groups[len(shape) > 1].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if matrix else 0.0}
        for matrix, parameters in groups.items()
        if parameters
    ]


def tensors(row: TokenRow, device: torch.device, rank: int = 0, shared: int = 1) -> dict[str, Any]:
    """A row as the model takes it; of a row that `shared` workers share, the slice of `rank`."""
    size = row.ids.shape[1] // shared
    mine = slice(rank * size, (rank + 1) * size)
    made: dict[str, Any] = {
        name: torch.from_numpy(getattr(row, name)[:, mine].copy()).to(device)
        for name in ("ids", "positions", "labels")
    }
    if row.bounds is not None:
        bounds = torch.from_numpy(row.bounds).to(device)
        longest = int((row.bounds[1:] - row.bounds[:-1]).max())
        made |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds,
                 "max_length_q": longest, "max_length_k": longest}  # fmt: skip
    return made


def save_folder(
    folder: Path, model: Any, weights: dict[str, Tensor], tokenizer: Any, template: str
) -> None:
    """Writes a Hugging Face folder (safetensors) from consolidated weights in host memory."""
    implementation = model.config._attn_implementation
    model.config._attn_implementation = "sdpa"
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
    model.config._attn_implementation = implementation
    model.config.use_cache = False
    if template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
