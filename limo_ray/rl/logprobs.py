"""Log-probabilities of sampled tokens, without the logits of a whole row ever existing."""

from typing import Any

import torch
from torch import Tensor


class _Chunked(torch.autograd.Function):
    """Log-probability and entropy of each token, `chunk` tokens at a time.

    The backward pass computes a chunk's logits again: memory is chunk x vocabulary. The weight is
    kept as it is, not saved: under ZeRO-3 it is gathered anew for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int, temperature: float
    ) -> tuple[Tensor, Tensor]:
        found = torch.empty((2, len(labels)), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(labels), chunk):
            part = slice(start, start + chunk)
            logits = (hidden[part] @ weight.T).float() / temperature
            top = logits.logsumexp(dim=1)
            found[0, part] = logits.gather(1, labels[part, None])[:, 0] - top
            found[1, part] = top - ((logits - top[:, None]).exp() * logits).sum(dim=1)
        ctx.save_for_backward(hidden, labels)
        ctx.weight, ctx.chunk, ctx.temperature = weight, chunk, temperature
        logprobs, entropy = found[0].clone(), found[1].clone()
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, labels = ctx.saved_tensors
        weight, grad = ctx.weight, grads[0]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = None
        if weight.requires_grad:
            grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        for start in range(0, len(labels), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            # d logprob / d logits = (1 at the label) - softmax
            slope = -((hidden[part] @ weight.T).float() / ctx.temperature).softmax(dim=1)
            slope.scatter_add_(1, labels[part, None], torch.ones_like(slope[:, :1]))
            slope = (slope * grad[part, None] / ctx.temperature).to(hidden.dtype)
            grad_hidden[part] = slope @ weight
            if grad_weight is not None:
                grad_weight += slope.T @ hidden[part]
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_hidden, grad_weight, None, None, None


def chunked(
    hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of each label and entropy at its place, float32 (tokens,) each.

    Args:
        hidden: (tokens, size) of the last layer at the learned places; may have no rows.
        weight: (vocabulary, size) of the output layer.
        labels: (tokens,) the token that comes next.
        chunk: tokens whose logits exist at once.
        temperature: the engine's: logits are divided by it, so that this is the distribution that
            tokens were drawn from.

    Only the log-probability has a gradient.
    """
    logprobs, entropy = _Chunked.apply(hidden, weight, labels, chunk, temperature)
    return logprobs, entropy
