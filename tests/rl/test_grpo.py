"""The loss and its gradient against thirty lines written from the papers, for each option."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from limo_ray.core import config as configs
from limo_ray.core.records import Attempt, Verdict
from limo_ray.rl.config import LossConfig, RLConfig
from limo_ray.rl.grpo import advantages, policy_loss, token_weights
from limo_ray.rl.policy import Batch, PolicyModel, batch_of, shares
from limo_ray.rl.rollouts import Group, Rollout
from limo_ray.train import model as models
from limo_ray.train.batches import packed_row
from limo_ray.train.config import TrainConfig

T, LONGEST = 0.8, 9


def reference(lm: Any, rollouts: list[dict[str, Any]], cfg: LossConfig) -> torch.Tensor:
    """The loss as the papers have it, one rollout and one token at a time."""
    by_group: dict[int, list[float]] = {}
    for r in rollouts:
        by_group.setdefault(r["group"], []).append(r["reward"])
    learned = [r for r in rollouts if not (cfg.overlong == "mask" and r["overlong"])]
    total = torch.zeros((), dtype=torch.float64)
    for r in learned:
        mean = sum(by_group[r["group"]]) / len(by_group[r["group"]])
        a = r["reward"] - mean
        if cfg.divide_by_std:
            var = sum((x - mean) ** 2 for x in by_group[r["group"]]) / (
                len(by_group[r["group"]]) - 1
            )
            a = a / var**0.5 if var else 0.0
        logits = lm(torch.tensor([r["prompt"] + r["tokens"]])).logits[0].double() / T
        summed = torch.zeros((), dtype=torch.float64)
        for t, token in enumerate(r["tokens"]):
            lp = torch.log_softmax(logits[len(r["prompt"]) + t - 1], dim=0)[token]
            ratio = torch.exp(lp - r["old"][t])
            clip = min(max(ratio.item(), 1 - cfg.clip_low), 1 + cfg.clip_high)
            inner = ratio * a if (ratio * a).item() <= clip * a else torch.tensor(clip * a)
            weight = min(torch.exp(r["old"][t] - r["engine"][t]).item(), cfg.importance_cap)
            loss = -inner * (weight if cfg.importance_cap else 1.0)
            away = r["ref"][t] - lp
            summed = summed + loss + cfg.kl * (torch.exp(away) - away - 1)
        if cfg.average == "token":
            total = total + summed / sum(len(x["tokens"]) for x in learned)
        elif cfg.average == "sequence":
            total = total + summed / len(r["tokens"]) / len(learned)
        else:
            total = total + summed / LONGEST / len(learned)
    return total


def policy(seed: int = 0) -> PolicyModel:
    torch.manual_seed(seed)
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
            attn_implementation=models.attention.register(),
        )
    )  # fmt: skip
    config = TrainConfig(model="tiny", data="none")
    config.compute.recompute = False
    config.compute.chunk = 5
    return PolicyModel(lm, config, T)


def rollouts() -> list[dict[str, Any]]:
    """Three groups of four; the last has no variance; some are overlong, some far off the ratio."""
    torch.manual_seed(1)
    rewards = [1, 0, 0.1, 0, 1, 1, 0, 1, 0, 0, 0, 0]
    made = []
    for number, reward in enumerate(rewards):
        length = 3 + number % 6
        tokens = torch.randint(64, (length,)).tolist()
        base = torch.full((length,), -4.16)  # near log 1/64, as a random model has it
        old = base + 0.5 * torch.randn(length)
        made.append(
            {"group": number // 4, "reward": float(reward), "overlong": number in (2, 5),
             "prompt": torch.randint(64, (2 + number % 3,)).tolist(), "tokens": tokens,
             "old": old, "engine": old + 0.8 * torch.randn(length),
             "ref": base + 0.3 * torch.randn(length)}
        )  # fmt: skip
    return made


def attempt(finish: str) -> Attempt:
    return Attempt(
        problem_id="p", index=0, completion="", finish_reason=finish, prompt_tokens=1,
        completion_tokens=1, verdict=Verdict.WRONG, extracted=None, judge="0" * 16,
    )  # fmt: skip


def batch(made: list[dict[str, Any]], config: RLConfig) -> Batch:
    groups = [
        Group(
            problem_id=str(number), prompt=[],
            rollouts=[
                Rollout(attempt=attempt("length" if r["overlong"] else "stop"), tokens=r["tokens"],
                        logprobs=r["engine"].tolist(), reward=r["reward"])
                for r in made if r["group"] == number
            ],
        )
        for number in sorted({r["group"] for r in made})
    ]  # fmt: skip
    return batch_of(groups, config)


OPTIONS: dict[str, dict[str, Any]] = {
    "dr_grpo": {"average": "constant"},
    "dapo": {"average": "token"},
    "grpo": {"divide_by_std": True, "average": "sequence", "kl": 0.05, "overlong": "keep"},
    "clip-higher": {"clip_high": 0.6},
    "no importance weights": {"importance_cap": 0.0},
    "importance weights cut at 1": {"importance_cap": 1.0},
    "kl": {"kl": 0.1},
    "overlong kept": {"overlong": "keep"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_loss_and_gradient_equal_the_reference(name: str) -> None:
    cfg = LossConfig(**OPTIONS[name])
    made = [r for r in rollouts() if r["group"] < 2]  # groups without variance: see below
    model = policy()

    wanted = reference(model_with_own_head(model), made, cfg)
    wanted_grads = torch.autograd.grad(wanted, list(model.inner[0].parameters()))

    rewards = torch.tensor([r["reward"] for r in made]).view(-1, 4)
    better = advantages(rewards, torch.ones_like(rewards, dtype=torch.bool),
                        divide_by_std=cfg.divide_by_std).flatten()  # fmt: skip
    lengths = torch.tensor([len(r["tokens"]) for r in made])
    learned = torch.tensor([not (r["overlong"] and cfg.overlong == "mask") for r in made])
    weights = token_weights(lengths, learned, cfg, LONGEST)
    row = packed_row([example(r) for r in made])
    new, _ = model(**models.tensors(row, torch.device("cpu")))
    found = policy_loss(
        new, torch.cat([r["old"] for r in made]), torch.cat([r["engine"] for r in made]),
        better.repeat_interleave(lengths), cfg, torch.cat([r["ref"] for r in made]),
    )  # fmt: skip
    loss = (found.loss * weights.repeat_interleave(lengths)).sum()
    grads = torch.autograd.grad(loss, list(model.inner[0].parameters()))

    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert max(g.abs().max().item() for g in wanted_grads) > 1e-3
    for got, want in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(got, want.to(got.dtype), atol=1e-5, rtol=1e-5)


def example(r: dict[str, Any]) -> Any:
    group = Group(problem_id="p", prompt=r["prompt"], rollouts=[
        Rollout(attempt=attempt("stop"), tokens=r["tokens"], logprobs=[0.0] * len(r["tokens"]),
                reward=reward) for reward in (0.0, 1.0)])  # fmt: skip
    return batch_of([group], config()).tokens[0]


def model_with_own_head(model: PolicyModel) -> Any:
    """The transformers model itself: its logits by the tied table, as its own head gives them."""

    def logits(ids: torch.Tensor) -> Any:
        lm = model.inner[0]
        hidden = lm.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return type("Output", (), {"logits": hidden @ lm.get_input_embeddings().weight.T})

    return logits


def config(**changed: Any) -> RLConfig:
    given = {"model": "tiny", "sources": "[{gym: {gcd: 4}}]", "engine.max_model_len": 2048}
    return configs.load(RLConfig, [f"{key}={value}" for key, value in (given | changed).items()])


def test_the_importance_weight_is_one_where_engine_and_trainer_agree() -> None:
    old = torch.tensor([-1.0, -2.0, -0.5])
    found = policy_loss(old, old, old, torch.ones(3), LossConfig())
    assert found.importance.tolist() == [1.0, 1.0, 1.0]
    assert found.loss.tolist() == [-1.0, -1.0, -1.0]
    far = policy_loss(old, old, old - 5, torch.ones(3), LossConfig(importance_cap=2.0))
    assert far.loss.tolist() == [-2.0, -2.0, -2.0]


def test_a_group_without_variance_gives_nothing() -> None:
    judged = torch.ones((2, 4), dtype=torch.bool)
    for divide in (True, False):
        found = advantages(torch.tensor([[1.0] * 4, [0.1] * 4]), judged, divide_by_std=divide)
        assert not found.any()
    made = batch(rollouts(), config())
    assert sorted(set(made.group)) == [0, 1]  # of three groups


def test_a_rollout_without_judgement_counts_in_no_mean() -> None:
    rewards = torch.tensor([[1.0, 0.0, 7.0]])
    found = advantages(rewards, torch.tensor([[True, True, False]]), divide_by_std=False)
    assert found.tolist() == [[0.5, -0.5, 0.0]]


def test_overlong_rollouts_are_masked_but_count_in_their_group() -> None:
    masked = batch(rollouts(), config())
    kept = batch(rollouts(), config(**{"loss.overlong": "keep"}))
    assert masked.advantage == kept.advantage
    assert [place for place, learned in enumerate(masked.learned) if not learned] == [2, 5]
    assert all(kept.learned)


def test_updates_share_whole_groups() -> None:
    made = batch(rollouts(), config())
    assert shares(made, 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert shares(made, 3) == [[0, 1, 2, 3], [4, 5, 6, 7]]  # two groups have variance
