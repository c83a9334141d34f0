"""The states of a sampler: which may follow which, and what each does with problems."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError

from limo_ray.core.errors import EngineError
from limo_ray.sampling.config import SamplerConfig
from limo_ray.sampling.coordinator import Coordinator
from limo_ray.sampling.sampler import Sampler
from limo_ray.sampling.state import State
from limo_ray.storage.store import Store
from tests.sampling.test_sampler import SLOW, pool, stage

ALLOWED = {
    ("running", "draining"), ("running", "failed"), ("draining", "stopped"),
    ("draining", "failed"), ("stopped", "failed"),
}  # fmt: skip


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("then", State)
def test_only_some_states_may_follow(state: State, then: State) -> None:
    sampler = Sampler.__new__(Sampler)
    sampler.state = state
    allowed = (state.value, then.value) in ALLOWED
    assert sampler._change(then) is allowed
    assert sampler.state is (then if allowed else state)


@pytest.fixture
def coordinator(local_ray):
    actor = local_ray.remote(Coordinator).options(num_cpus=0).remote()
    yield actor
    local_ray.kill(actor)


@pytest.fixture
def sampler(local_ray, coordinator: Any, tmp_path: Path) -> Sampler:
    """In this process, made by a thread that takes no signals."""
    config = SamplerConfig(flush_s=0.1, speculative_share=0.0, partial_tokens=3)
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(
            Sampler, SLOW, [stage()], Store(str(tmp_path)), "", coordinator, config
        )
        return made.result()


def until(condition: Any, timeout_s: float = 30) -> None:
    deadline = time.time() + timeout_s
    while not condition():
        assert time.time() < deadline
        time.sleep(0.01)


def test_an_interrupted_sampler_drains_saves_and_stops(
    local_ray, coordinator: Any, sampler: Sampler
) -> None:
    states = [sampler.state]
    change = sampler._change

    def recorded(state: State) -> bool:
        changed = change(state)
        states.append(sampler.state)
        return changed

    sampler._change = recorded  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as thread:
        batch = thread.submit(sampler, pool(60))
        until(lambda: sampler.slots.open)
        local_ray.get(coordinator.interrupt.remote())
        undecided = 60 - len(batch.result(timeout=30).to_pylist())
    until(lambda: sampler.state is State.STOPPED)
    assert list(dict.fromkeys(states)) == [State.RUNNING, State.DRAINING, State.STOPPED]
    assert undecided > 0
    sampler.log_session.refresh()
    assert len(sampler.log_session.partials[0]) > 0
    assert sampler._stats()["halted"] and not sampler.slots.open
    assert len(sampler(pool(4))) == 0, "a stopped sampler lets problems leave undecided"


def test_a_draining_sampler_holds_its_batches(
    local_ray, coordinator: Any, sampler: Sampler
) -> None:
    """They are for another sampler: they must not seem done."""
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(sampler, pool(60))
        until(lambda: sampler.slots.open)
        sampler.draining.preempt()
        later = threads.submit(sampler, pool(64).slice(60))
        time.sleep(0.5)
        held = not first.done() and not later.done()
        state, halted = sampler.state, sampler._stats()["halted"]
        local_ray.get(coordinator.stop.remote(set(), True))
        assert len(later.result(timeout=30)) == 0, "the job stopped it meanwhile"
        assert len(first.result(timeout=30)) < 60
    assert held and state is State.DRAINING and not halted


def test_a_failed_sampler_ends_every_batch_with_the_error(sampler: Sampler) -> None:
    async def fail() -> None:
        sampler._fail(EngineError("model not found"))

    with ThreadPoolExecutor(1) as thread:
        batch = thread.submit(sampler, pool(60))
        until(lambda: sampler.slots.open)
        asyncio.run_coroutine_threadsafe(fail(), sampler.loop).result(timeout=10)
        with pytest.raises(EngineError, match="model not found"):
            batch.result(timeout=30)
    assert sampler.state is State.FAILED and sampler._stats()["halted"]
    with pytest.raises((EngineError, RayError), match="model not found"):
        sampler(pool(64).slice(60))


def test_a_stopped_group_leaves_and_the_others_go_on(
    local_ray, coordinator: Any, sampler: Sampler
) -> None:
    sampler.group_by = "source"
    rows = pool(40)
    sources = ["enough" if number % 2 else "more" for number in range(40)]
    rows = rows.set_column(rows.schema.get_field_index("source"), "source", [sources])
    with ThreadPoolExecutor(1) as thread:
        batch = thread.submit(sampler, rows)
        until(lambda: sampler.slots.open)
        local_ray.get(coordinator.stop.remote({"enough"}, False))
        decided = batch.result(timeout=60).to_pylist()
    assert sampler.state is State.RUNNING
    assert sum(row["source"] == "more" for row in decided) == 20
    assert sum(row["source"] == "enough" for row in decided) < 20
