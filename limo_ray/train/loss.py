"""Cross entropy of the learned tokens without the logits of a whole row ever existing.

Dynamic fine-tuning (arXiv 2508.05629, equation 9) weighs each token's cross entropy by the token's
own probability, through which no gradient goes: unlikely tokens, which small models cannot fit,
move the weights less.
"""

from typing import Any

import torch
from torch import Tensor


class _Chunked(torch.autograd.Function):
    """Sum of cross entropies of hidden @ weight.T, `chunk` tokens at a time.

    A chunk's gradients are computed as soon as its logits are there, so that these can go: memory
    is chunk x vocabulary, and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int, dft: bool, train: bool
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if train else None
        wide = hidden.shape[0] > chunk  # several parts are added: not in bfloat16
        grad_weight = None
        if train and weight.requires_grad:
            kind = torch.float32 if wide else weight.dtype
            grad_weight = torch.zeros(weight.shape, dtype=kind, device=weight.device)
        for start in range(0, hidden.shape[0], chunk):
            part, label = hidden[start : start + chunk], labels[start : start + chunk, None]
            logits = (part @ weight.T).float()
            top = logits.logsumexp(dim=1, keepdim=True)
            entropy = top - logits.gather(1, label)
            share = entropy.neg().exp() if dft else None  # probability of each label
            total += (entropy if share is None else entropy * share).sum()
            if grad_hidden is None:
                continue
            slope = logits.sub_(top).exp_()
            slope.scatter_add_(1, label, torch.full_like(label, -1, dtype=slope.dtype))
            slope = (slope if share is None else slope.mul_(share)).to(hidden.dtype)
            torch.mm(slope, weight, out=grad_hidden[start : start + chunk])
            if grad_weight is not None and wide:
                grad_weight += slope.T @ part
            elif grad_weight is not None:
                torch.mm(slope.T, part, out=grad_weight)
        ctx.grads = grad_hidden, grad_weight
        ctx.kind = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.grads
        ctx.grads = None
        if weight is not None:
            weight = weight.mul_(grads[0]).to(ctx.kind)
        return hidden.mul_(grads[0]), weight, None, None, None, None


def chunked(
    hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int, dft: bool = False
) -> Tensor:
    """Sum of the cross entropies in float32.

    Args:
        hidden: (tokens, size) of the last layer at the learned places; may have no rows.
        weight: (vocabulary, size) of the output layer.
        labels: (tokens,) the token that comes next.
        chunk: tokens whose logits exist at once.
        dft: each token's cross entropy times its probability.
    """
    train = torch.is_grad_enabled() and hidden.requires_grad
    return _Chunked.apply(hidden, weight, labels, chunk, dft, train)
