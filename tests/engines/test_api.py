"""The engine behind an OpenAI-compatible server: what is sent, faults, patience, keys."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from email.utils import formatdate

import pytest
from aiohttp import web

from limo_ray.core import config as configs
from limo_ray.core.errors import EngineError
from limo_ray.core.records import Problem
from limo_ray.engines import api, api_client
from limo_ray.engines.api_client import retry_after
from limo_ray.engines.api_config import ApiConfig
from limo_ray.engines.base import EngineConfig, Request, SamplingConfig, create, identity
from tests.evaluate.server import Served, completion, cut_connection, drip_feed, endless

SCRIPTED = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.4, max_num_seqs=16, seed=3,
    script={"tokens": 60, "unparsed": 0.1},
)  # fmt: skip
ANSWERS = {f"What is {n} + {n}?": str(2 * n) for n in range(60)} | {"odd \ufffd": "1"}
QUICK = ApiConfig(wait_s=0.02, longest_wait_s=0.1, attempts=4, timeout_s=5)
PLAIN = SamplingConfig(max_tokens=50)


@pytest.fixture
def server():
    with Served(SCRIPTED, ANSWERS) as server:
        yield server


def config(server, settings=QUICK, slots=8):
    return EngineConfig(
        model="scripted", kind="api", url=server.url, api=settings, max_num_seqs=slots,
        device="cpu", seed=3,
    )  # fmt: skip


@asynccontextmanager
async def started(server, settings=QUICK, slots=8):
    engine = create(config(server, settings, slots))
    await engine.start()
    yield engine
    await engine._client.__aexit__()


def request(engine, question="What is 1 + 1?", index=0, sampling=PLAIN):
    problem = Problem(id=question, question=question, answer="2", source="")
    prompt = engine.render([{"role": "user", "content": question}])
    return Request(problem=problem, index=index, prompt=prompt, sampling=sampling)


def ask(server, settings=QUICK, sampling=PLAIN, question="What is 1 + 1?"):
    async def once():
        async with started(server, settings) as engine:
            return await engine.generate(request(engine, question, sampling=sampling))

    return asyncio.run(once())


def question(body):
    return body["messages"][-1]["content"]


def first(fault, times=1):
    """Trouble for the first requests only."""
    return lambda number, body: fault if number <= times else None


def test_what_is_sent(server):
    plain = SamplingConfig(temperature=0.6, top_p=0.9, max_tokens=50, stop=["END"])
    ask(server, QUICK, plain)
    ask(server, replace(QUICK, extensions=False, body={"thinking": 9}), plain)
    ask(server, replace(QUICK, seeds=True), SamplingConfig(max_tokens=9, loop_count=6))
    first, second, third = server.bodies
    assert first["temperature"] == 0.6 and first["top_p"] == 0.9 and first["stop"] == ["END"]
    assert first["top_k"] == 0 and first["repetition_penalty"] == 1.0 and "seed" not in first
    assert "top_k" not in second and second["thinking"] == 9
    assert third["repetition_detection"] == {"max_pattern_size": 64, "min_count": 6}
    assert 0 <= third["seed"] < 2**31


def test_slots_bound_what_is_asked_at_once(server):
    async def many():
        async with started(server, slots=3) as engine:
            asked = [engine.generate(request(engine, index=i)) for i in range(12)]
            assert all(found.text for found in await asyncio.gather(*asked))

    server.delay_s = 0.02
    asyncio.run(many())
    assert server.most_at_once == 3


def test_thinking_that_the_server_took_out_is_put_back(server):
    server.thinking = True
    text = ask(server).text
    assert text.startswith("<think>\n") and text.count("</think>") == 1
    server.trouble = first(completion(message={"content": None, "reasoning_content": "hm"}), 9)
    assert ask(server).text == "<think>\nhm", "cut off while thinking: no closing tag"


def test_usage_and_reasons_are_read(server):
    usage = {"prompt_tokens": 17, "completion_tokens": 5}
    server.trouble = first(completion(usage=usage, choice={"finish_reason": "repetition"}), 9)
    found = ask(server)
    assert (found.prompt_tokens, found.completion_tokens, found.finish_reason) == (17, 5, "loop")
    server.trouble = first(completion(message={"content": None}, usage={}), 9)
    assert ask(server).text == "", "the model may say nothing"


def test_retry_after_is_waited_for_by_all(server):
    server.trouble = first(web.Response(status=429, headers={"Retry-After": "0.6"}))

    async def two():
        async with started(server) as engine:
            one = asyncio.create_task(engine.generate(request(engine)))
            await asyncio.sleep(0.2)
            await asyncio.gather(one, engine.generate(request(engine, index=1)))

    asyncio.run(two())
    assert min(server.times[1:]) - server.times[0] > 0.4
    assert retry_after("12") == 12 and retry_after(None) == retry_after("soon") == 0
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


@pytest.mark.parametrize(
    "fault",
    [
        web.Response(status=503, text="overloaded"),
        web.Response(status=429),
        web.Response(text="<html>not JSON", content_type="text/html"),
        web.Response(text="[" * 100_000, content_type="application/json"),
        web.Response(body=b"\xff\xfe\xfa", content_type="application/json"),
        web.json_response({"choices": []}),
        web.json_response(["no", "object"]),
        web.json_response({"choices": [{"message": "text"}]}),
        completion(message={"content": ["a", "list"]}),
        completion(usage={"completion_tokens": "many"}),
        completion(usage={"completion_tokens": 2**40}),
        completion(choice={"finish_reason": 7}),
        completion(choice={"finish_reason": "abort"}),
        cut_connection,
    ],
)
def test_a_fault_is_tried_again(server, fault):
    right = ask(server)
    number = len(server.bodies)
    server.trouble = lambda n, body: fault if n == number + 1 else None
    assert ask(server) == right
    assert len(server.bodies) == number + 2


@pytest.mark.parametrize("body", [drip_feed, endless])
def test_a_body_that_does_not_end_is_cut_in_time_and_size(server, body, monkeypatch):
    monkeypatch.setattr(api_client, "LONGEST_REPLY", 1 << 20)
    server.trouble = first(body)
    begun = time.monotonic()
    assert ask(server, replace(QUICK, timeout_s=0.5 if body is drip_feed else 30)).text
    assert time.monotonic() - begun < 20
    deadline = time.monotonic() + 20
    while server.at_once and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.at_once == 0, "the connection is closed"
    server.trouble = first(body, 99)
    with pytest.raises(
        EngineError, match=r"failed 4 times.* (no whole reply in|longer than 1 MiB)"
    ):
        ask(server, replace(QUICK, timeout_s=0.2 if body is drip_feed else 30))


def test_a_server_that_is_away_is_given_up(server):
    server.trouble = first(web.Response(status=502), 99)
    with pytest.raises(EngineError, match=r"/chat/completions failed 4 times, .*502"):
        ask(server)
    assert len(server.bodies) == 4
    server.__exit__()
    with pytest.raises(EngineError, match="ConnectError"):
        ask(server)


def test_a_request_that_always_fails_waits_for_the_others(server):
    """Nobody knows which of the two it is: a server that is away, or a request that it dislikes."""
    server.delay_s = 0.05
    poisoned = "What is 7 + 7?"

    def trouble(number, body):
        bad = question(body) == poisoned
        return web.Response(status=500, text="out\nof luck") if bad else None

    server.trouble = trouble

    async def all_of():
        async with started(server, replace(QUICK, attempts=2), slots=4) as engine:
            asked = [engine.generate(request(engine, question)) for question in list(ANSWERS)[:60]]
            return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(all_of())
    (error,) = [one for one in found if isinstance(one, BaseException)]
    assert isinstance(error, EngineError) and "500 out of luck" in str(error)
    assert server.asked[poisoned] > 4 and question(server.bodies[-1]) == poisoned


def test_a_storm_of_429_is_weathered(server):
    """One request is starved for longer than its own patience: others are answered meanwhile."""
    server.delay_s = 0.05
    starved, *others = list(ANSWERS)[:60]

    def trouble(number, body):
        waiting = len(server.asked) < 60 and question(body) == starved
        return web.Response(status=429) if waiting else None

    server.trouble = trouble

    async def all_of():
        async with started(server, slots=4) as engine:
            asked = [engine.generate(request(engine, one)) for one in (starved, *others)]
            return await asyncio.gather(*asked)

    assert len(asyncio.run(all_of())) == 60
    assert server.asked[starved] > QUICK.attempts


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (400, "unknown field top_k", "client.extensions=false"),
        (403, "not yours", "client.key_file"),
        (404, "no such\nroute", "404 no such route"),
    ],
)
def test_a_refusal_is_an_error_at_once_but_not_after_an_answer(server, status, text, words):
    server.trouble = first(web.Response(status=status, text=text), 99)
    with pytest.raises(EngineError, match=words):
        ask(server)
    assert len(server.bodies) == 1
    server.trouble = lambda n, body: web.Response(status=status, text=text) if n == 3 else None

    async def twice():
        async with started(server) as engine:
            return [await engine.generate(request(engine)) for _ in range(2)]

    assert len(asyncio.run(twice())) == 2 and len(server.bodies) == 4


def test_cancelling_aborts_the_request(server):
    server.delay_s = 30

    async def cancel():
        async with started(server) as engine:
            asked = asyncio.create_task(engine.generate(request(engine)))
            await _until(lambda: server.at_once == 1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await _until(lambda: server.at_once == 0)

    asyncio.run(cancel())
    assert server.aborted == 1


def test_cut_off_ends_all_requests(server):
    server.delay_s = 30

    async def cut():
        async with started(server, slots=2) as engine:
            asked = [asyncio.create_task(engine.generate(request(engine))) for _ in range(4)]
            await _until(lambda: server.at_once == 2)
            await engine.cut_off()
            found = await asyncio.gather(*asked, engine.generate(request(engine)))
            assert {one.finish_reason for one in found} == {"cut"}
            await _until(lambda: server.at_once == 0)

    asyncio.run(cut())


async def _until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


def test_lone_surrogates_become_question_marks(server):
    server.trouble = first(
        completion(message={"content": "\ud800 is odd", "reasoning": "\udfff"}), 9
    )
    assert ask(server).text == "<think>\n?\n</think>\n\n? is odd"
    server.trouble = lambda number, body: None
    server.answers["odd ?"] = "1"
    assert ask(server, question="odd \ud800").text


def test_a_prompt_that_fills_the_context_is_an_empty_completion_as_from_vllm(server):
    text = ("This model's maximum context length is 512 tokens. However, your prompt contains {} "
            "input tokens")  # fmt: skip

    def trouble(number, body):
        if body["max_tokens"] > 12:
            return web.Response(status=400, text=text.format(500))
        return None

    server.trouble = trouble
    assert ask(server).completion_tokens <= 12
    assert server.bodies[-1]["max_tokens"] == 12, "what room there is is used"
    server.trouble = lambda number, body: web.Response(status=400, text=text.format(512))
    found = ask(server)
    assert (found.text, found.finish_reason, found.completion_tokens) == ("", "length", 0)
    server.trouble = lambda n, b: web.Response(status=400, text="context_length_exceeded")
    with pytest.raises(EngineError, match="context_length_exceeded"):
        ask(server)


def test_keys_come_from_a_file_or_the_environment_and_are_shown_nowhere(
    server, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    server.key = "sesame"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EngineError, match=r"401 .*no such key"):
        ask(server)
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    assert ask(server).text
    server.trouble = lambda number, body: web.Response(status=500)
    with pytest.raises(EngineError) as caught:
        ask(server)
    server.trouble = lambda number, body: None
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    (tmp_path / "key").write_text("sesame\n")
    from_file = replace(QUICK, key_file=str(tmp_path / "key"))
    assert ask(server, from_file).text
    with pytest.raises(EngineError, match=r"client\.key_file: '/none'"):
        ask(server, ApiConfig(key_file="/none"))
    (tmp_path / "key").write_text("sesame\nagain")
    with pytest.raises(ValueError, match="one line of ASCII") as two_lines:
        from_file.key()
    engine = config(server, from_file)
    shown = [str(caught.value), str(two_lines.value), repr(engine), str(asdict(engine)),
             configs.as_yaml(engine), caplog.text]  # fmt: skip
    assert "sesame" not in " ".join(shown)


def test_the_model_is_found_in_the_servers_list(server):
    about = api.find_model(replace(config(server), model=""))
    assert about == {"id": "scripted", "object": "model", "max_model_len": 4096}
    with pytest.raises(EngineError, match=r"'gpt' is none of those at .* \(scripted\)"):
        api.find_model(replace(config(server), model="gpt"))
    server.about = {"no": "id"}
    with pytest.raises(EngineError, match="not a list of models"):
        api.find_model(config(server))


def test_the_identity_names_server_requests_and_weights(server):
    plain = config(server)
    told = json.loads(identity(plain))
    assert told[:2] == ["endpoint", "scripted"] and told[3] == server.url
    server.about["created"] = 5
    assert identity(plain) == identity(plain)
    server.about["root"] = "/models/other"
    assert json.loads(identity(plain)) != told
    others = [replace(QUICK, identity="run 7"), replace(QUICK, body={"a": 1}),
              replace(QUICK, extensions=False)]  # fmt: skip
    assert len({identity(config(server, other)) for other in (*others, QUICK)}) == 4
    with Served(SCRIPTED, ANSWERS) as elsewhere:
        assert identity(config(server, others[0])) != identity(config(elsewhere, others[1]))
        elsewhere.about["root"] = "/models/other"
        assert identity(config(server, others[0])) == identity(config(elsewhere, others[0]))


def test_the_default_patience_outlasts_five_minutes_of_5xx(server, monkeypatch):
    """Time passes at once: only the waits are counted."""
    slept: list[float] = []
    rest = asyncio.sleep

    async def sleep(seconds):
        slept.append(seconds)
        await rest(0)

    monkeypatch.setattr(api_client.asyncio, "sleep", sleep)
    server.trouble = lambda number, body: (
        web.Response(status=503) if sum(s for s in slept if s >= 0.7) < 300 else None
    )
    assert ask(server, ApiConfig()).text
    server.trouble = lambda number, body: web.Response(status=503)
    with pytest.raises(EngineError, match="failed 16 times, the last time: 503"):
        ask(server, ApiConfig())


def test_secret_headers_come_from_the_environment(server, monkeypatch):
    settings = replace(QUICK, headers={"api-key": "$THE_KEY", "x-team": "blue"})
    settings.check()
    with pytest.raises(EngineError, match=r"headers.api-key: the variable \$THE_KEY is not set"):
        ask(server, settings)
    monkeypatch.setenv("THE_KEY", "sesame")
    assert settings.sent_headers() == {"api-key": "sesame", "x-team": "blue"}
    assert ask(server, settings).text
    for name in ("Authorization", "X-Api-Key", "x-auth-token"):
        with pytest.raises(ValueError, match=f"headers.{name}: a secret in the config"):
            replace(QUICK, headers={name: "sesame"}).check()


def test_the_config_is_checked():
    with pytest.raises(ValueError, match="url: 'host:1' must start with http"):
        EngineConfig(model="m", kind="api", url="host:1").check()
    with pytest.raises(ValueError, match="attempts: 0"):
        ApiConfig(attempts=0).check()
    EngineConfig(model="m", kind="api", url="http://host:1/v1").check()
