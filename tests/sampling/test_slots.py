"""An engine's slots: each is free again whatever became of its request."""

import asyncio
from typing import Any

import pytest

from limo_ray.core.errors import EngineError
from limo_ray.core.records import Problem
from limo_ray.engines.base import Completion, EngineConfig, Request, SamplingConfig
from limo_ray.sampling import slots as slots_module
from limo_ray.sampling.slots import EngineSlots

REQUEST = Request(
    problem=Problem(id="p", question="", answer="", source=""), index=0, prompt=[],
    sampling=SamplingConfig(),
)  # fmt: skip
DONE = Completion(text="", finish_reason="stop", prompt_tokens=1, completion_tokens=1)


class FakeEngine:
    """Answers when it is asked to, or dies."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.dead = self.closed = False

    async def start(self) -> None:
        pass

    async def generate(self, request: Request) -> Completion:
        await self.answer.wait()
        if self.dead:
            raise EngineError("out of memory")
        return DONE

    def shutdown(self) -> None:
        self.closed = True


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    made: list[FakeEngine] = []

    def create(config: EngineConfig) -> FakeEngine:
        made.append(FakeEngine())
        return made[-1]

    monkeypatch.setattr(slots_module.engines, "create", create)
    return made


def new_slots(changes: list[int], max_deaths: int = 1) -> EngineSlots:
    config = EngineConfig(model="m", kind="scripted", max_num_seqs=2)
    return EngineSlots(config, max_deaths, lambda: changes.append(1))


def requested(slots: EngineSlots, engine: Any, found: list[Any]) -> "asyncio.Task[None]":
    async def attempt() -> None:
        found.append(await slots.generate(engine, REQUEST))
        await asyncio.sleep(10)  # the verifier, which needs no slot

    task = asyncio.get_running_loop().create_task(attempt())
    slots.take(task)
    return task


def test_a_slot_is_taken_until_the_completion_is_there(engines: list[FakeEngine]) -> None:
    async def live() -> None:
        changes: list[int] = []
        found: list[Any] = []
        slots = new_slots(changes)
        engine = await slots.start()
        assert slots.size == 3  # one more than the engine decodes at once
        tasks = [requested(slots, engine, found) for _ in range(3)]
        await asyncio.sleep(0)
        assert (slots.open, slots.free) == (3, False)
        engines[0].answer.set()
        await asyncio.sleep(0.01)
        assert found == [DONE] * 3 and slots.open == 0 and len(changes) == 3
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert slots.open == 0 and len(changes) == 3, "a slot was given back twice"

    asyncio.run(live())


@pytest.mark.parametrize("begun", [True, False])
def test_an_aborted_attempt_gives_its_slot_back(engines: list[FakeEngine], begun: bool) -> None:
    """Also one that is aborted before its first step."""

    async def live() -> None:
        changes: list[int] = []
        slots = new_slots(changes)
        task = requested(slots, await slots.start(), [])
        if begun:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert slots.open == 0 and changes == [1]

    asyncio.run(live())


def test_a_dead_engine_is_buried_once_and_followed_by_another(engines: list[FakeEngine]) -> None:
    async def live() -> None:
        found: list[Any] = []
        slots = new_slots([])
        first = await slots.start()
        tasks = [requested(slots, first, found) for _ in range(2)]
        await asyncio.sleep(0)
        engines[0].dead = True
        engines[0].answer.set()
        await asyncio.sleep(0.01)
        assert found == [None, None] and engines[0].closed
        assert slots.engine is None and slots.seconds == 0 and slots.deaths == 1
        second = await slots.start()
        assert second is engines[1] and slots.engine is second
        assert await slots.generate(first, REQUEST) is None, "a late request to the dead one"
        for task in tasks:
            task.cancel()

    asyncio.run(live())


def test_an_engine_that_keeps_dying_is_given_up_with_its_reason(engines: list[FakeEngine]) -> None:
    async def live() -> None:
        slots = new_slots([], max_deaths=1)
        for number in range(2):
            engine = await slots.start()
            engines[number].dead = True
            engines[number].answer.set()
            if number == 0:
                assert await slots.generate(engine, REQUEST) is None
            else:
                with pytest.raises(EngineError, match=r"out of memory \(2 times: giving up\)"):
                    await slots.generate(engine, REQUEST)

    asyncio.run(live())
