"""The policy loss of GRPO and of those who mended it. Plain tensors, no model.

    a problem's rollouts -> rewards -> `advantages`        how much better than the group each is
    -> `token_weights`                                     what each token counts in the loss
    -> `policy_loss`                                       the loss of each token, and its figures

Sources, as the comments name them:
    GRPO       DeepSeekMath, arXiv 2402.03300, section 4.1
    Dr. GRPO   Understanding R1-Zero-like training, arXiv 2503.20783, section 3
    DAPO       arXiv 2503.14476, section 3
    TIS        Your efficient RL framework secretly brings you off-policy RL training,
               fengyao.notion.site/off-policy-rl (2025): truncated importance weights
    k3         Approximating KL divergence, joschu.net/blog/kl-approx.html (2020)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from limo_ray.rl.config import LossConfig


def advantages(rewards: Tensor, judged: Tensor, *, divide_by_std: bool) -> Tensor:
    """How much better than its group's mean each rollout is; (groups, size) as its arguments.

    Args:
        rewards: of each rollout.
        judged: False where there is no reward (the verifier failed, or the rollout is not there):
            such a rollout is in no mean, and its advantage is 0.
        divide_by_std: by the group's standard deviation (n - 1 in its divisor, as trainers have
            it).

    A group without variance has advantage 0 throughout, so it gives no gradient.
    """
    count = judged.sum(dim=1, keepdim=True)
    mean = torch.where(judged, rewards, 0).sum(dim=1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(judged, rewards - mean, 0)
    if not divide_by_std:
        return centred  # Dr. GRPO, equation 3: A = r - mean(r)
    std = (centred.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return torch.where(std > 0, centred / std, 0)  # GRPO, 4.1.2: A = (r - mean(r)) / std(r)


def token_weights(lengths: Tensor, learned: Tensor, config: LossConfig, longest: int) -> Tensor:
    """What one token of each rollout counts in the loss of a step; (rollouts,).

    Args:
        lengths: (rollouts,) tokens of each completion.
        learned: (rollouts,) False for one that is masked: its tokens count 0.
        longest: the limit of a completion's tokens.
    """
    counted = torch.where(learned, lengths, 0)
    rollouts = int(learned.sum())
    if not rollouts:
        return torch.zeros(lengths.shape, dtype=torch.float64)
    if config.average == "token":  # DAPO, equation 8, over the step: 1 / sum |o_i|
        weight = torch.full(lengths.shape, 1 / int(counted.sum()), dtype=torch.float64)
    elif config.average == "sequence":  # GRPO, equation 3: 1/G sum_i 1/|o_i| sum_t
        weight = 1 / (rollouts * lengths.double())
    else:  # Dr. GRPO, section 3.1: 1/G sum_i sum_t, over a constant
        weight = torch.full(lengths.shape, 1 / (rollouts * longest), dtype=torch.float64)
    return torch.where(learned, weight, 0)


@dataclass(slots=True)
class TokenLoss:
    """Of each token (tokens,): its loss, and what is watched. Only `loss` has a gradient."""

    loss: Tensor
    clipped: Tensor
    """1 where the clip took the gradient away."""
    importance: Tensor
    """The weight between trainer and engine, before it is truncated."""


def policy_loss(
    logprobs: Tensor,
    old: Tensor,
    engine: Tensor,
    advantage: Tensor,
    config: LossConfig,
    reference: Tensor | None = None,
) -> TokenLoss:
    """The loss of each sampled token, not yet weighted by `token_weights`; all are (tokens,).

    Args:
        logprobs: log pi of the policy that is trained; has a gradient.
        old: log pi of the trainer before the step's first update.
        engine: log pi as the engine had it when it drew the token: other kernels, other rounding,
            and other weights when it is a step behind.
        advantage: of the token's rollout.
        reference: log pi of the model that training began with; only with config.kl.
    """
    # GRPO, equation 3 (PPO's clipped surrogate); DAPO, equation 10: the upper bound may be wider
    ratio = (logprobs - old).exp()
    bounded = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    loss = -torch.minimum(ratio * advantage, bounded * advantage)
    clipped = (bounded * advantage < ratio * advantage).float()
    # TIS: min(pi_old / pi_engine, C), a constant for the gradient
    importance = (old - engine).exp().detach()
    if config.importance_cap:
        loss = importance.clamp(max=config.importance_cap) * loss
    if config.kl:
        assert reference is not None
        # GRPO, equation 4 (k3): pi_ref / pi - log(pi_ref / pi) - 1
        away = reference - logprobs
        loss = loss + config.kl * (away.exp() - away - 1)
    return TokenLoss(loss=loss, clipped=clipped.detach(), importance=importance)
