"""The policy on a DeepSpeed worker: log-probabilities of rollouts, and an update from them."""

import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limo_ray.rl import logprobs
from limo_ray.rl.config import LossConfig, RLConfig
from limo_ray.rl.grpo import advantages, policy_loss, token_weights
from limo_ray.rl.rollouts import Group
from limo_ray.train import model as models
from limo_ray.train.batches import IGNORED
from limo_ray.train.config import TrainConfig
from limo_ray.train.tokens import Tokens
from limo_ray.train.worker import Worker

FIGURES = ("clip_share", "importance", "capped_share", "engine_gap", "entropy")


class PolicyModel(models.LossModel):
    """A causal language model whose forward pass gives the sampled tokens' log-probabilities."""

    def __init__(self, lm: Any, config: TrainConfig, temperature: float) -> None:
        super().__init__(lm, config)
        head = self.inner[0].get_output_embeddings()
        head.forward = types.MethodType(_head_logprobs, head)  # inside its own hooks: ZeRO-3
        head.chunk, head.temperature = config.compute.chunk, temperature

    def forward(self, ids: Tensor, positions: Tensor, labels: Tensor, **packed: Any) -> Any:
        """Log-probability and entropy, (learned tokens,) each, in the order of the rows."""
        model = self.inner[0]
        hidden = model.base_model(
            input_ids=ids, position_ids=positions, use_cache=False, **packed
        ).last_hidden_state
        learned = labels != IGNORED
        return model.get_output_embeddings()(hidden[learned], labels[learned])


def _head_logprobs(self: Any, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return logprobs.chunked(hidden, self.weight, labels, self.chunk, self.temperature)


@dataclass(kw_only=True, slots=True)
class Batch:
    """The rollouts that a step learns from; lists are by rollout, tensors of them (tokens,)."""

    tokens: list[Tokens] = field(default_factory=list)
    """Prompt and completion; learned is the completion."""
    engine: list[Tensor] = field(default_factory=list)
    """Log-probabilities of the completion's tokens as the engine had them."""
    advantage: list[float] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    group: list[int] = field(default_factory=list)


def batch_of(groups: list[Group], config: RLConfig) -> Batch:
    """Groups with variance as a batch; those without are left out: they have no gradient."""
    batch = Batch()
    for number, group in enumerate(groups):
        rewards = [each.reward for each in group.rollouts]
        judged = torch.tensor([[reward is not None for reward in rewards]])
        values = torch.tensor([[reward or 0.0 for reward in rewards]])
        better = advantages(values, judged, divide_by_std=config.loss.divide_by_std)[0]
        if not better.any():
            continue
        for rollout, advantage in zip(group.rollouts, better.tolist(), strict=True):
            ids = torch.tensor([*group.prompt, *rollout.tokens], dtype=torch.int32).numpy()
            learn = torch.arange(len(ids)).numpy() >= len(group.prompt)
            masked = config.loss.overlong == "mask" and rollout.attempt.finish_reason == "length"
            batch.tokens.append(Tokens(ids=ids, learn=learn))
            batch.engine.append(torch.tensor(rollout.logprobs))
            batch.advantage.append(advantage)
            batch.learned.append(rollout.reward is not None and not masked)
            batch.group.append(number)
    return batch


def shares(batch: Batch, updates: int) -> list[list[int]]:
    """The rollouts of each of a step's updates: whole groups, as many for each as can be."""
    numbers = list(dict.fromkeys(batch.group))
    dealt = [set(numbers[start::updates]) for start in range(updates)]
    found = [[place for place, number in enumerate(batch.group) if number in share]
             for share in dealt]  # fmt: skip
    return [share for share in found if any(batch.learned[place] for place in share)]


class Learner:
    """Updates of one worker's policy; every method is a collective call."""

    def __init__(self, worker: Worker, config: LossConfig, longest: int, reference: Any) -> None:
        """`reference`: the frozen first model (PolicyModel), only with config.kl."""
        self.worker = worker
        self.config = config
        self.longest = longest
        self.reference = reference

    def _passes(self, batch: Batch, chosen: list[int]) -> Iterator[tuple[list[int], Any]]:
        """This worker's forward passes: the rollouts of each, and its tensors."""
        layout, device = self.worker.job.layout, self.worker.engine.device
        for row in layout.rows(batch.tokens, chosen)[self.worker.group]:
            yield row, models.tensors(layout.row(batch.tokens, row), device)

    def logprobs(self, batch: Batch, chosen: list[int]) -> dict[int, Tensor]:
        """By rollout of this worker: the present policy's, for updates that come after others."""
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for row, tensors in self._passes(batch, chosen):
                flat = self.worker.engine(**tensors)[0]
                sizes = [batch.tokens[place].targets for place in row]
                found |= dict(zip(row, flat.split(sizes), strict=True))
        return found

    def learn(
        self, batch: Batch, chosen: list[int], old: dict[int, Tensor] | None
    ) -> tuple[float, dict[str, float]]:
        """Forward and backward passes of one update; returns its loss and figures.

        `old`: log-probabilities before the step's first update; None: this is the first.
        """
        worker, device = self.worker, self.worker.engine.device
        lengths = torch.tensor([batch.tokens[place].targets for place in chosen])
        learned = torch.tensor([batch.learned[place] for place in chosen])
        weights = dict(zip(chosen, token_weights(lengths, learned, self.config, self.longest)
                           .tolist(), strict=True))  # fmt: skip
        sums = torch.zeros(len(FIGURES) + 2, dtype=torch.float64, device=device)
        passes = list(self._passes(batch, chosen))
        for number, (row, tensors) in enumerate(passes):
            worker.engine.set_gradient_accumulation_boundary(number == len(passes) - 1)
            new, entropy = worker.engine(**tensors)
            sizes = torch.tensor([batch.tokens[place].targets for place in row], device=device)

            def spread(values: list[float], sizes: Tensor = sizes) -> Tensor:
                return torch.tensor(values, device=device).repeat_interleave(sizes)

            before = new.detach() if old is None else _joined([old[place] for place in row], device)
            first = None
            if self.reference is not None:
                with torch.no_grad():
                    first = self.reference(**tensors)[0]
            engine = _joined([batch.engine[place] for place in row], device)
            found = policy_loss(
                new, before, engine, spread([batch.advantage[place] for place in row]),
                self.config, first,
            )  # fmt: skip
            loss = (found.loss * spread([weights[place] for place in row])).sum()
            # DeepSpeed averages over the workers: their number makes a sum of it
            worker.engine.backward(loss * dist.get_world_size(), scale_wrt_gas=False)
            counted = spread([float(batch.learned[place]) for place in row])
            cap = self.config.importance_cap or float("inf")
            figures = (found.clipped, found.importance, (found.importance > cap).float(),
                       (before - engine).abs(), entropy)  # fmt: skip
            together = [loss, counted.sum(), *((each * counted).sum() for each in figures)]
            sums += torch.stack([each.detach().double() for each in together])
        dist.all_reduce(sums)
        total, tokens, *values = sums.tolist()
        return total, {name: value / max(1.0, tokens)
                       for name, value in zip(FIGURES, values, strict=True)}  # fmt: skip


def _joined(parts: list[Tensor], device: Any) -> Tensor:
    return torch.cat([each.to(device) for each in parts] or [torch.zeros(0, device=device)])
