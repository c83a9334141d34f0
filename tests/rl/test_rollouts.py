"""Rollouts without Ray: early decided groups, the log, and an order that is done again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from limo_ray.attempts.log import AttemptLog
from limo_ray.core import config as configs
from limo_ray.core.records import Problem, problem_id
from limo_ray.engines.base import EngineConfig
from limo_ray.engines.scripted import ScriptedEngine
from limo_ray.rl.config import RLConfig
from limo_ray.rl.rollouts import Drawn, Order, RolloutEngine
from limo_ray.storage.store import Store
from tests.rl.rl_runs import overrides


def problems(count: int) -> list[Problem]:
    return [Problem(id=problem_id(f"q {n}"), question=f"q {n}", answer=str(n), source="test")
            for n in range(count)]  # fmt: skip


def order(count: int = 30, **changed: Any) -> Order:
    given = {"fingerprint": "f" * 16, "part": "000000", "weights": "w",
             "problems": problems(count), "groups": 4, "rollouts": 6, "probe": 3}  # fmt: skip
    return Order(**given | changed)


def draw(folder: Path, wanted: Order, engine: str = "") -> Drawn:
    config = configs.load(RLConfig, overrides(folder))
    scripted = configs.load(
        EngineConfig,
        ["kind=scripted", "model=m", f"script={{alpha: 1, beta: 1, wrong: '-1', {engine}}}"],
    )
    actor = RolloutEngine(config, scripted, Store(config.store))

    async def run() -> Drawn:
        try:
            return await actor.draw(wanted)
        finally:
            await actor.stop()

    return asyncio.run(run())


def test_a_group_is_given_up_after_equal_rewards_and_drawn_whole_after_two_that_differ(
    tmp_path: Path,
) -> None:
    drawn = draw(tmp_path, order())
    assert sum(group.mixed for group in drawn.groups) == 4
    for group in drawn.groups:
        assert len(group.rollouts) == (6 if group.mixed else 3)
        assert all(len(r.tokens) == len(r.logprobs) > 0 for r in group.rollouts)
    assert len(drawn.groups) > 4, "this seed gives no group up: choose another"
    # one problem is begun for each that is given up, so the last one begun is mixed
    given_up = sum(not group.mixed for group in drawn.groups)
    assert len(drawn.groups) == 4 + given_up
    assert [g.problem_id for g in drawn.groups] == [p.id for p in problems(len(drawn.groups))]
    assert drawn.new == sum(len(group.rollouts) for group in drawn.groups)


def test_which_groups_a_step_has_does_not_depend_on_who_is_quick(tmp_path: Path) -> None:
    def ids(name: str, engine: str) -> list[str]:
        return [group.problem_id for group in draw(tmp_path / name, order(), engine).groups]

    assert ids("a", "tokens: 20") == ids("b", "tokens: 20, seconds_per_token: 0.002")


def test_the_same_order_draws_nothing_again(tmp_path: Path) -> None:
    first, again = draw(tmp_path, order()), draw(tmp_path, order())
    assert again.new == 0
    assert [g.rollouts for g in again.groups] == [g.rollouts for g in first.groups]
    log = AttemptLog(Store(str(tmp_path / "store")), "f" * 16)
    assert len(log.read_index()) == first.new


def test_rollouts_that_reached_one_file_only_come_into_the_log_too(tmp_path: Path) -> None:
    first = draw(tmp_path, order())
    store = Store(str(tmp_path / "store"))
    store.delete("attempts/" + "f" * 16)  # killed between the two writes
    assert draw(tmp_path, order()).new == 0
    assert len(AttemptLog(store, "f" * 16).read_index()) == first.new


def test_another_step_with_the_same_weights_draws_anew(tmp_path: Path) -> None:
    first, later = draw(tmp_path, order()), draw(tmp_path, order(part="000001"))
    assert later.new > 0
    log = AttemptLog(Store(str(tmp_path / "store")), "f" * 16)
    assert len(log.attempts([p.id for p in problems(30)])) == first.new + later.new


@pytest.mark.parametrize("probe", [0, 3])
def test_a_pool_that_runs_out_ends_the_step(tmp_path: Path, probe: int) -> None:
    drawn = draw(tmp_path, order(count=3, probe=probe))
    assert len(drawn.groups) == 3


def test_an_engine_that_shares_a_gpu_is_awake_only_while_it_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def record(name: str) -> None:
        real = getattr(ScriptedEngine, name)

        async def recorded(self: ScriptedEngine, *given: Any) -> Any:
            if name != "generate" or calls[-1:] != ["generate"]:
                calls.append(name)
            return await real(self, *given)

        monkeypatch.setattr(ScriptedEngine, name, recorded)

    for name in ("sleep", "wake", "load_weights", "generate"):
        record(name)
    config = configs.load(RLConfig, overrides(tmp_path, share_gpu=True))
    scripted = configs.load(EngineConfig, ["kind=scripted", "model=m", "device=gpu"])
    actor = RolloutEngine(config, scripted, Store(config.store))

    async def run() -> None:
        await actor.start()
        await actor.draw(order(4))
        await actor.draw(order(4))  # all of it is logged: the prompts are the engine's
        await actor.stop()

    asyncio.run(run())
    assert calls == ["sleep", "wake", "load_weights", "generate", "sleep", "wake", "sleep"]
