"""Attention in which packed examples see only themselves, and that can be spread over workers.

One function for transformers' attention registry. Packed rows come with the bounds of their
examples: on a GPU torch's variable-length flash attention takes them as they are, elsewhere each
example is one call of scaled-dot-product attention: no mask of length x length exists anywhere.
With sequence parallelism (Ulysses, arXiv 2309.14509) each worker has a part of the row, and for
attention alone workers swap: all of the row for a part of the heads.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "limo_ray"

_sharing: dist.ProcessGroup | None = None  # the workers that share a row with this one


def register(sharing: dist.ProcessGroup | None = None) -> str:
    """Makes the function known to transformers; returns its name for `attn_implementation`."""
    global _sharing
    _sharing = sharing
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def refusal(config: Any) -> str:
    """Why this attention would not be the model's own; empty when it is."""
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        return f"its attention has a sliding window ({window})"
    if getattr(config, "attn_logit_softcapping", None):
        return "its attention caps scores (attn_logit_softcapping)"
    if getattr(config, "model_type", "") == "gpt_oss":
        return "its attention has sinks"
    return ""


def _no_mask(*_: object, **__: object) -> None:
    """The bounds say all that a mask would."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention of (batch, heads, length, size) to (batch, length, heads, size).

    `cu_seq_lens_q` are the bounds of a packed row (whole, also when it is shared).
    """
    if _sharing is not None:
        query, key, value = (_swap(each, 1, 2, _sharing) for each in (query, key, value))
    if cu_seq_lens_q is None or len(cu_seq_lens_q) == 2:
        groups = query.shape[1] // key.shape[1]
        out = scaled_dot_product_attention(
            query, _wider(key, groups), _wider(value, groups), is_causal=True, scale=scaling
        )
    elif query.is_cuda:
        out = _flash(query, key, value, cu_seq_lens_q, max_length_q, scaling)
    else:
        out = _one_by_one(query, key, value, cu_seq_lens_q.tolist(), scaling)
    if _sharing is not None:
        out = _swap(out, 2, 1, _sharing)
    return out.transpose(1, 2).contiguous(), None


def _wider(heads: Tensor, groups: int) -> Tensor:
    """Key or value heads repeated for the query heads that share them."""
    return heads if groups == 1 else heads.repeat_interleave(groups, dim=1)


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, bounds: list[int], scaling: float | None
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = _wider(key, groups), _wider(value, groups)
    sizes = [end - start for start, end in pairwise(bounds)]
    parts = zip(*(each.split(sizes, dim=2) for each in (query, key, value)), strict=True)
    return torch.cat(
        [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in parts],
        dim=2,
    )


def _flash(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    out = varlen_attn(
        q, k, v, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return out.transpose(0, 1)[None]


class _Swap(torch.autograd.Function):
    """Splits one dimension over the workers and joins another; its gradient is the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, split: int, join: int, group: dist.ProcessGroup) -> Tensor:
        ctx.back = (join, split, group)
        parts = torch.stack([p.contiguous() for p in x.chunk(group.size(), dim=split)])
        met = torch.empty_like(parts)
        dist.all_to_all_single(met, parts, group=group)
        return torch.cat(list(met.unbind(0)), dim=join)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _swap(grads[0], *ctx.back), None, None, None


def _swap(x: Tensor, split: int, join: int, group: dist.ProcessGroup) -> Tensor:
    return _Swap.apply(x, split, join, group)
