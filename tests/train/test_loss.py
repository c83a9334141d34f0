"""Losses beside the plain way: all logits at once, and autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor

from limo_ray.core import config as configs
from limo_ray.train import attention, loss
from limo_ray.train import model as models
from limo_ray.train.batches import IGNORED
from limo_ray.train.config import TrainConfig


def plain(logits: Tensor, labels: Tensor, dft: bool) -> Tensor:
    """Sum over tokens of -log p, or with `dft` of -p log p without a gradient through p."""
    chosen = logits.float().log_softmax(dim=-1)[torch.arange(len(labels)), labels]
    return -(chosen.exp().detach() * chosen if dft else chosen).sum()


@pytest.mark.parametrize("dft", [False, True])
@pytest.mark.parametrize("chunk", [3, 16])
def test_loss_and_gradient_are_those_of_whole_logits(chunk: int, dft: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(11, 8, requires_grad=True)
    weight = torch.randn(23, 8, requires_grad=True)
    labels = torch.randint(0, 23, (11,))
    found = loss.chunked(hidden, weight, labels, chunk, dft)
    wanted = plain(hidden @ weight.T, labels, dft)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    ours = torch.autograd.grad(found * 0.7, (hidden, weight))
    theirs = torch.autograd.grad(wanted * 0.7, (hidden, weight))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("entropy", ["chunked", "full"])
def test_a_model_learns_by_dft_and_is_measured_by_cross_entropy(entropy: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32,
                             "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    settings = {"model": "x", "data": "x", "loss": "dft", "compute.cross_entropy": entropy,
                "compute.recompute": "false"}  # fmt: skip
    config = configs.load(TrainConfig, [f"{key}={value}" for key, value in settings.items()])
    lm = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation=attention.register()))
    ids = torch.randint(0, 50, (1, 9))
    logits = lm(input_ids=ids, position_ids=torch.arange(9)[None]).logits[0]
    labels = torch.tensor([[IGNORED, 4, 9, 7, IGNORED, 1, 3, 30, IGNORED]])
    model = models.wrap(lm, config)
    for training in (True, False):
        model.train(training)
        found = model(ids, torch.arange(9)[None], labels)
        learned = labels[0] != IGNORED
        wanted = plain(logits[learned], labels[0, learned], dft=training)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
