"""The loop of one worker without Ray and DeepSpeed: plain torch in the place of the engine."""

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from limo_ray.core import config as configs
from limo_ray.report.templates import clean
from limo_ray.rl import loop as loops
from limo_ray.rl import publish
from limo_ray.rl.config import RLConfig
from limo_ray.rl.job import outline, read_data
from limo_ray.rl.loop import Loop, RLJob
from limo_ray.rl.policy import PolicyModel
from limo_ray.rl.rollouts import RolloutEngine
from limo_ray.storage.store import Store
from limo_ray.train import model as models
from limo_ray.train.table import batch_layout
from limo_ray.train.worker import Worker
from tests.rl.rl_runs import overrides
from tests.train import tiny


class PlainEngine:
    """What the loop calls of a DeepSpeed engine, for one worker in float32."""

    def __init__(self, module: Any, lr: float) -> None:
        self.module, self.device = module, torch.device("cpu")
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=lr)

    def __call__(self, **row: Any) -> Any:
        return self.module(**row)

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        pass

    def backward(self, loss: Any, scale_wrt_gas: bool) -> None:
        loss.backward()

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def zero_optimization(self) -> bool:
        return False

    bfloat16_enabled = zero_optimization_partition_weights = zero_optimization


@pytest.fixture(scope="module")
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.model_folder(tmp_path / "model")
    monkeypatch.setattr(loops.ray, "get", lambda value: value)
    return tmp_path


def made(place: Path, **changed: Any) -> Loop:
    """A loop at its first step; engines answer when they are asked."""
    config = configs.load(RLConfig, overrides(place, **changed))
    store, training = Store(config.store), config.training()
    runner = asyncio.Runner()

    def draw(order: Any) -> Any:
        async def once() -> Any:
            actor = RolloutEngine(config, config.policy_engine("cpu"), store)
            try:
                return await actor.draw(order)
            finally:
                await actor.stop()

        return runner.run(once())

    handle = SimpleNamespace(draw=SimpleNamespace(remote=draw))
    job = RLJob(
        config=training, device="cpu", store=store, model=config.model, template="", train=[],
        held_out=[], layout=batch_layout(training, training.batch.examples), state=None, rl=config,
        engines=[handle], identity="start", folder=str(place / "weights"),
    )  # fmt: skip

    def policy() -> Any:
        return models.load(config.model, training, None,
                           lambda lm, cfg: PolicyModel(lm, cfg, 1.0))  # fmt: skip

    worker = Worker(job=job, engine=PlainEngine(policy(), config.optimizer.lr))
    return Loop(worker, read_data(config), policy() if config.loss.kl else None)


def steps(loop: Loop, first: int, last: int) -> list[dict[str, Any]]:
    for step in range(first, last):
        loop.worker.history.append(loop.step(step))
    times = ("draw_s", "learn_s", "seconds", "new")
    return [{name: value for name, value in row.items() if name not in times}
            for row in loop.worker.history]  # fmt: skip


def test_steps_learn_from_mixed_groups_and_log_under_their_weights(
    place: Path, group: None
) -> None:
    loop = made(place)
    before = copy.deepcopy(loop.worker.engine.module.state_dict())
    prints = [loop.weights.fingerprint]
    for step in range(2):
        steps(loop, step, step + 1)
        prints.append(loop.weights.fingerprint)
    for row in loop.worker.history:
        assert row["learned"] == 4 * row["mixed"] > 0
        assert row["rollouts"] == row["learned"] + 2 * (row["tried"] - row["mixed"])
        assert row["grad_norm"] > 0
        assert 0 < row["uniform_expected"] < 1
    assert len(set(prints)) == 3
    folders = Store(str(place / "store")).folders("rl/tiny/rollouts")
    assert folders == [f"000000-{prints[0]}", f"000001-{prints[1]}"]
    after = loop.worker.engine.module.state_dict()
    assert any(not before[name].equal(after[name]) for name in before)


def test_a_resumed_step_draws_nothing_that_is_logged_and_goes_the_same_way(
    place: Path, group: None
) -> None:
    loop = made(place)
    steps(loop, 0, 1)
    saved = copy.deepcopy((loop.worker.engine.module.state_dict(),
                           loop.worker.engine.optimizer.state_dict(),
                           loop.worker.history))  # fmt: skip
    whole = steps(loop, 1, 3)

    again = made(place)
    again.worker.engine.module.load_state_dict(saved[0])
    again.worker.engine.optimizer.load_state_dict(saved[1])
    again.worker.history = saved[2]
    again = Loop(again.worker, again.data, again.learner.reference)
    assert steps(again, 1, 3) == whole
    assert [row["new"] for row in again.worker.history[1:]] == [0, 0]


def test_with_staleness_a_step_has_the_rollouts_of_the_weights_before(
    place: Path, group: None
) -> None:
    loop = made(place, **{"rollouts.max_staleness": 1})
    prints = [loop.weights.fingerprint]
    steps(loop, 0, 1)
    prints.append(loop.weights.fingerprint)
    steps(loop, 1, 3)
    folders = Store(str(place / "store")).folders("rl/tiny/rollouts")
    first, second = prints
    assert folders == [f"000000-{first}", f"000001-{first}", f"000002-{second}"]


def test_a_step_without_variance_updates_nothing(place: Path, group: None) -> None:
    never = "{alpha: 0.001, beta: 1000, tokens: 20, wrong: '-1'}"
    loop = made(place, **{"engine.script": never})
    before = loop.weights
    (row,) = steps(loop, 0, 1)
    assert row["learned"] == 0 and row["reward"] == 0 and row["tried"] == 16
    assert row["carried"] == 0
    assert loop.weights.bits == before.bits


def test_report_card_and_metrics(place: Path, group: None) -> None:
    loop = made(place)
    score = loop.held_out(0)
    assert score["items"] == 6
    steps(loop, 0, 2)
    history = loop.worker.history
    history[-1] |= {"held_out": score["value"], "held_out_score": score}
    config = loop.config
    found = publish.metrics(history, {"held_out_before": score}, loop.data, 9.0)
    assert found["rollouts"] == sum(row["rollouts"] for row in history)
    manifest = {
        "name": "tiny", "metrics": found, "seconds": 9.0, "versions": {}, "model": "start",
        "config": configs.as_dict(config), "command": "limo-ray rl tiny",
    }  # fmt: skip
    store = Store(config.store)
    publish.publish(store, store.within("rl/tiny"), config, manifest, history, loop.data)
    page = store.read_text("rl/tiny/report.html")
    assert page is not None and clean(page) == page
    assert "Held-out accuracy" in page and "Sampled completions" in page
    card = store.read_text("models/tiny/README.md")
    assert card is not None and "40 problems" in card


def test_a_dry_run_says_what_it_takes(place: Path) -> None:
    text = outline(configs.load(RLConfig, overrides(place)), "cpu")
    assert "problems  40" in text and "given up after 2 equal rewards" in text
    assert "memory of each" in text
