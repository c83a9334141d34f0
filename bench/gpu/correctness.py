"""Attention, loss, a whole step and the ZeRO stages against plain references."""

import copy
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.gpu import models
from bench.gpu.report import result
from limo_ray.train import attention as ours
from limo_ray.train import loss as losses
from limo_ray.train import model as training_model
from limo_ray.train.batches import IGNORED


def _device(name: str) -> str:
    torch.manual_seed(0)
    return "cuda" if name == "gpu" else "cpu"


def _off(found: Tensor, right: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((found.float() - right.float()).abs().max() / right.float().abs().max())


def attention(device: str, _: str) -> None:
    """Packed attention in bfloat16 against one example at a time in float32, and its gradients."""
    where = _device(device)
    lengths = [1, 7, 128, 1000, 33, 2927] if device == "gpu" else [1, 7, 40, 100]
    bounds = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=where)
    for heads, kv in ((12, 2), (8, 8)):
        q, k, v = (
            torch.randn(
                1, count, sum(lengths), 128, device=where, dtype=torch.bfloat16, requires_grad=True
            )
            for count in (heads, kv, kv)
        )
        out, _none = ours.attend(
            torch.nn.Module(), q, k, v, None, cu_seq_lens_q=bounds, max_length_q=max(lengths)
        )
        wide = [x.detach().float().requires_grad_() for x in (q, k, v)]
        right = _plain_attention(wide, bounds.tolist())
        slope = torch.randn_like(right)
        out.backward(slope.to(out.dtype))
        right.backward(slope)
        pairs = [(out, right), *((a.grad, b.grad) for a, b in zip((q, k, v), wide, strict=True))]
        worst = max(_off(a, b) for a, b in pairs)
        what = f"packed attention, {heads} heads over {kv}: largest relative error"
        result("attention", what, worst, ok=worst < 0.03, tokens=sum(lengths))


def _plain_attention(wide: list[Tensor], bounds: list[int]) -> Tensor:
    """Softmax written out, one example after the other: (1, length, heads, size)."""
    parts = []
    for start, end in pairwise(bounds):
        q, k, v = (x[0, :, start:end] for x in wide)
        k, v = (x.repeat_interleave(len(q) // len(k), dim=0) for x in (k, v))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
        parts.append(scores.masked_fill(later, float("-inf")).softmax(-1) @ v)
    return torch.cat(parts, dim=1).transpose(0, 1)[None]


def loss(device: str, _: str) -> None:
    """The chunked loss and its gradients against all logits at once."""
    where = _device(device)
    tokens, size, vocabulary = (3000, 512, 32000) if device == "gpu" else (300, 64, 2000)
    hidden = torch.randn(tokens, size, device=where)
    weight = torch.randn(vocabulary, size, device=where) / 20
    labels = torch.randint(0, vocabulary, (tokens,), device=where)
    for dtype, allowed in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        found = []
        for chunk in (0, 70):
            h, w = (x.to(dtype).requires_grad_() for x in (hidden.clone(), weight.clone()))
            value = (
                losses.chunked(h, w, labels, chunk)
                if chunk
                else cross_entropy((h @ w.T).float(), labels, reduction="sum")
            )
            (value / tokens).backward()
            found.append([value.detach(), h.grad, w.grad])
        worst = max(_off(a, b) for a, b in zip(found[1], found[0], strict=True))
        what = f"chunked loss in {str(dtype).removeprefix('torch.')}: largest relative error"
        result("loss", what, worst, ok=worst < allowed)


def step(device: str, _: str) -> None:
    """Loss and gradient of a packed row of ours against transformers' own, example by example."""
    where = _device(device)
    with tempfile.TemporaryDirectory() as folder:
        config = models.settings(Path(folder), "tiny", device)
        lm = models.made("tiny", where)
    examples = models.examples(config, "tiny", count=4, length=50)
    right = copy.deepcopy(lm).float()
    right.config._attn_implementation = "sdpa"
    targets = sum(one.targets for one in examples)
    wanted = 0.0
    for one in examples:
        ids = torch.from_numpy(one.ids.astype("int64"))[None].to(where)
        labels = ids.where(torch.from_numpy(one.learn).to(where), torch.tensor(IGNORED).to(where))
        part = right(input_ids=ids, labels=labels).loss * one.targets / targets
        part.backward()
        wanted += float(part)
    lm.set_attn_implementation(ours.register())
    whole = training_model.wrap(lm, config)
    layout = models.layout(config, len(examples))
    total = 0.0
    for rows in layout.rows(examples, list(range(len(examples)))):
        for row in rows:
            tensors = training_model.tensors(layout.row(examples, row), torch.device(where))
            part = whole(**tensors) / targets
            part.backward()
            total += float(part)
    error = abs(total - wanted) / wanted
    result("step", "loss of a packed row against transformers' own: relative error", error,
           ok=error < 5e-3, peer=round(wanted, 4), peer_name="transformers")  # fmt: skip
    pairs = zip(lm.parameters(), right.parameters(), strict=True)
    far = [float((a.grad.float() - b.grad).norm() / b.grad.norm()) for a, b in pairs]
    result("step", "its gradient: largest relative distance of a parameter's", max(far),
           ok=max(far) < 0.05)  # fmt: skip


VARIANTS: dict[str, dict[str, Any]] = {
    "stage 1": {"zero.stage": 1},
    "stage 2": {"zero.stage": 2},
    "stage 3": {"zero.stage": 3},
    "stage 3, offloaded optimizer": {"zero.stage": 3, "zero.offload_optimizer": "true"},
    "stage 3, all offloaded": {
        "zero.stage": 3, "zero.offload_optimizer": "true", "zero.offload_parameters": "true",
    },
    "stage 1, recomputed": {"zero.stage": 1, "compute.recompute": "true"},
}  # fmt: skip


def zero(device: str, _: str) -> None:
    """Three steps at every stage of ZeRO, with and without offload, from the same weights."""
    _device(device)
    folder = Path(tempfile.mkdtemp(prefix="limo_ray-bench-"))
    first: list[float] = []
    for name, changed in VARIANTS.items():
        found = models.train(folder, "tiny", device, 3, changed, lr=1e-3).losses
        first = first or found
        worst = max(abs(a - b) for a, b in zip(found, first, strict=True))
        result("zero", f"{name}: loss after 3 steps", found[-1], ok=worst < 0.02,
               peer=round(first[-1], 4), peer_name="stage 1")  # fmt: skip
