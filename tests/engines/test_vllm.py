"""The real engine on the packaged model, and why an engine does not start."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from limo_ray.core.errors import EngineError
from limo_ray.core.prompts import question_messages
from limo_ray.core.records import Problem
from limo_ray.engines import orphan_reaper
from limo_ray.engines.base import (
    Completion,
    Engine,
    EngineConfig,
    Request,
    SamplingConfig,
    create,
)
from limo_ray.engines.startup_errors import explain
from limo_ray.storage import model_files

CONFIG = EngineConfig(
    model=model_files.PACKAGED, device="cpu", dtype="bfloat16", max_num_seqs=8, max_model_len=256,
    kv_cache_gib=1, eager=True,
)  # fmt: skip
PROBLEM = Problem(id="0" * 32, question="What is 3 + 4?", answer="7", source="test")


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out of memory"),
        ("ValueError: No available memory for the cache blocks. Try", "KV cache"),
        ("OSError: no/such is not a local folder and is not a valid model identifier",
         "model not found"),
        ("ValueError: Bfloat16 is only supported on GPUs with compute capability", "wrong dtype"),
        ("ValueError: User-specified max_model_len (9) is greater than the derived max_model_len "
         "(8)", "longer than the model's context"),
        ("1 validation error for VllmConfig\n  Value error, bad: '0.5' [type=value_error, in]\n"
         "    For further information visit https://errors", "bad: '0.5'"),
        ("(EngineCore pid=7) ERROR 11-23 07:00:00 [core.py:9] KeyError: 'odd'", "KeyError: 'odd'"),
    ],
)  # fmt: skip
def test_the_cause_is_found_in_what_the_processes_print(output: str, cause: str) -> None:
    page = f"INFO starting\nTraceback (most recent call last):\n  File x\n{output}\nmore"
    told = explain("Engine core initialization failed. See root cause above.", page)
    assert cause in told
    assert "\n" not in told


def test_an_unknown_cause_is_the_exception_itself() -> None:
    assert explain("something odd", "") == "something odd"


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    def folder(name: str, weights: bytes, template: str = "{{ x }}") -> str:
        path = tmp_path / name
        path.mkdir()
        (path / "config.json").write_text("{}")
        (path / "chat_template.jinja").write_text(template)
        (path / "model.safetensors").write_bytes(weights)
        return str(path)

    one = model_files.identity(folder("one", b"a" * 100))
    assert one == model_files.identity(folder("same", b"a" * 100))
    assert one != model_files.identity(folder("weights", b"a" * 99 + b"b"))
    assert one != model_files.identity(folder("template", b"a" * 100, "{{ y }}"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        model_files.resolve(str(tmp_path))
    with pytest.raises(ValueError, match="does not exist"):
        model_files.resolve(str(tmp_path / "none"))


@pytest.mark.process
@pytest.mark.parametrize("started", [True, False])
def test_children_end_when_their_owner_is_killed(tmp_path: Path, started: bool) -> None:
    """Those of an engine that runs, and of one that is still starting in a group of its own."""
    code = (
        "import subprocess, sys, time; from limo_ray.engines.orphan_reaper import Guard;"
        "guard = Guard();"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"{started} and guard.name_children();"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment,
        process_group=None if started else 0,
    )  # fmt: skip
    child = psutil.Process(int(owner.stdout.readline()))
    for other in psutil.Process(owner.pid).children():
        if other != child:
            other.kill()  # so does Ray when a worker ends; a watcher among them would be gone
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert not psutil.wait_procs([child], timeout=20)[1], "the child outlived its owner"


@pytest.mark.process
def test_orphans_of_a_dead_owner_are_ended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_reaper, "records_folder", lambda: tmp_path)
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = [orphan.pid, psutil.Process(orphan.pid).create_time()]
    other = [orphan.pid, identity[1] - 1000]  # an id given anew is another process
    (tmp_path / "1.json").write_text(f'{{"owner": [999999999, 0], "children": [{other}]}}')
    assert orphan_reaper.reap_orphans() == 0
    (tmp_path / "2.json").write_text(f'{{"owner": [999999999, 0], "children": [{identity}]}}')
    (tmp_path / "3.json").write_text("half a rec")
    assert orphan_reaper.reap_orphans() == 1
    assert not psutil.pid_exists(orphan.pid)


@pytest.mark.engine
def test_a_wrong_model_ends_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such_type"}')
    broken = EngineConfig(model=str(tmp_path), device="cpu", eager=True)
    with pytest.raises(EngineError) as caught:
        asyncio.run(create(broken).start())
    assert str(tmp_path) in str(caught.value)
    assert "no_such_type" in str(caught.value)


def engine_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "VLLM" in child.name()]


async def cut_off_midway(engine: Engine, request: Request) -> Completion:
    """A request's completion, cut off after some tokens; how fast they come is not known."""
    seconds = 0.3
    for _ in range(12):
        generating = asyncio.create_task(engine.generate(request))
        await asyncio.sleep(seconds)
        await engine.cut_off()
        completion = await generating
        if completion.finish_reason == "cut" and len(completion.tokens) > len(request.prefix):
            return completion
        seconds *= 1.7 if completion.finish_reason == "cut" else 0.4
    raise AssertionError(f"never cut off midway: {completion}")


async def continues_what_was_cut_off(engine: Engine) -> None:
    """Greedy: what is cut off and goes on comes to what was never cut off."""
    count = "Count from 1 to 40, with commas: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,"
    prompt = engine.render([{"role": "user", "content": count}])
    greedy = SamplingConfig(temperature=0.0, max_tokens=80)

    def request(sampling: SamplingConfig, prefix: Sequence[int] = ()) -> Request:
        return Request(
            problem=PROBLEM, index=0, prompt=prompt, sampling=sampling, prefix=list(prefix)
        )

    whole = await engine.generate(request(greedy))
    assert whole.tokens == []
    tokens: list[int] = []
    for _ in range(2):
        cut = await cut_off_midway(engine, request(greedy, tokens))
        assert len(tokens) < len(cut.tokens) == cut.completion_tokens < whole.completion_tokens
        tokens = cut.tokens
    rest = await engine.generate(request(greedy, tokens))
    assert (rest.text, rest.finish_reason) == (whole.text, whole.finish_reason)
    assert rest.completion_tokens == whole.completion_tokens
    assert rest.prompt_tokens == whole.prompt_tokens == len(prompt)

    # a stop string and a loop across the seam
    ids = engine._tokenizer.encode("one two three four five six", add_special_tokens=False)
    stops = SamplingConfig(stop=["three four"])
    joined = engine._join(request(stops, ids[:3]), ids, "length")
    assert joined[:2] == ("one two ", "stop")
    loops = SamplingConfig(loop_count=3)
    joined = engine._join(request(loops, [5, 6, 7, 6, 7]), [5, 6, 7, 6, 7, 6, 7, 6, 8], "stop")
    assert joined[1:] == ("loop", [5, 6, 7, 6, 7, 6, 7])


def test_the_scripted_engine_goes_on_too() -> None:
    config = EngineConfig(
        model="s", kind="scripted", max_num_seqs=1, script={"seconds_per_token": 0.01}
    )
    request = Request(problem=PROBLEM, index=4, prompt=[1], sampling=SamplingConfig())

    async def live() -> None:
        whole = await create(config).generate(request)
        engine = create(config)
        drawing = [asyncio.create_task(engine.generate(request)) for _ in range(2)]
        await asyncio.sleep(0.1)
        await engine.cut_off()
        cut, waiting = await asyncio.gather(*drawing)
        assert cut.finish_reason == waiting.finish_reason == "cut"
        assert 0 < len(cut.tokens) < whole.completion_tokens
        assert waiting.tokens == []
        began = time.monotonic()
        rest = await create(config).generate(replace(request, prefix=cut.tokens))
        assert rest == whole
        assert time.monotonic() - began >= 0.009 * (whole.completion_tokens - len(cut.tokens))

    asyncio.run(live())


@pytest.mark.engine
def test_the_engine_draws_loops_aborts_and_dies_cleanly() -> None:
    """One engine for all of it: a start takes a minute."""

    async def live() -> None:
        engine = create(CONFIG)
        await engine.start()
        prompt = engine.render(question_messages(PROBLEM.question))

        def draw(index: int, **sampling: object):
            settings = SamplingConfig(**{"temperature": 0.8, "max_tokens": 24} | sampling)
            return engine.generate(
                Request(problem=PROBLEM, index=index, prompt=prompt, sampling=settings)
            )

        several = await asyncio.gather(*(draw(index) for index in range(12)))
        assert len({completion.text for completion in several}) > 1
        assert all(0 < completion.completion_tokens <= 24 for completion in several)
        assert {completion.finish_reason for completion in several} <= {"stop", "length"}

        greedy = await asyncio.gather(*(draw(index, temperature=0.0) for index in range(2)))
        assert greedy[0].text == greedy[1].text

        # a prompt that makes a small model repeat itself
        looped = engine.render([{"role": "user", "content": "Say: na na na na na na na na na"}])
        settings = SamplingConfig(temperature=0.0, max_tokens=200, loop_count=3)
        request = Request(problem=PROBLEM, index=0, prompt=looped, sampling=settings)
        assert (await engine.generate(request)).finish_reason in ("loop", "stop")

        long = SamplingConfig(temperature=0.0, max_tokens=200)
        filled = Request(problem=PROBLEM, index=0, prompt=[1] * 300, sampling=long)
        assert (await engine.generate(filled)).completion_tokens == 0

        aborted = asyncio.create_task(draw(99, max_tokens=200))
        await asyncio.sleep(0.3)
        assert aborted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await aborted

        await continues_what_was_cut_off(engine)

        core = [child for child in engine_processes() if "EngineCore" in child.name()]
        assert core
        pending = asyncio.create_task(draw(100, max_tokens=200))
        await asyncio.sleep(0.3)
        for process in core:
            process.kill()
        with pytest.raises(EngineError, match="died"):
            await pending
        engine.shutdown()

    asyncio.run(live())
    deadline = time.time() + 20
    while engine_processes() and time.time() < deadline:
        time.sleep(0.2)
    assert not engine_processes()
