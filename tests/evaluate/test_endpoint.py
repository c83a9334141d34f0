"""An endpoint as a source of attempts: patience, refusals, resuming, the same scores as ours."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from limo_ray.attempts.parts import read_table
from limo_ray.core import config as configs
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.endpoint import (
    ClientConfig,
    Endpoint,
    EndpointError,
    GivenUp,
    retry_after,
)
from limo_ray.evaluate.runner import evaluate
from limo_ray.storage.store import Store
from tests.evaluate.server import Served

ROOT = Path(__file__).parents[2]
ENGINE = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.4, max_num_seqs=16, seed=3,
    script={"tokens": 60, "unparsed": 0.1},
)  # fmt: skip
ANSWERS = {f"What is {n} + {n}?": str(2 * n) for n in range(60)}
QUICK = ClientConfig(concurrency=8, wait_s=0.02, longest_wait_s=0.1, attempts=4)


@pytest.fixture
def exam(tmp_path):
    path = tmp_path / "exam.jsonl"
    rows = [json.dumps({"question": q, "answer": a}) for q, a in ANSWERS.items()]
    path.write_text("\n".join(rows))
    return path


def arguments(exam, store, *more):
    source = {"path": str(exam), "question": "question", "answer": "answer"}
    return [
        f"store={store}", "model=scripted", "name=test", "sampler.flush_s=0.2",
        "benchmarks=" + json.dumps([{"name": "exam", "source": source}]),
        "protocols={greedy: {attempts: 1, sampling: {temperature: 0, max_tokens: 100}}}",
        "engine={kind: scripted, device: cpu, num_cpus: 0.4, max_num_seqs: 16, seed: 3,"
        " script: {tokens: 60, unparsed: 0.1}}",
        "client={concurrency: 8, wait_s: 0.02, longest_wait_s: 0.1, attempts: 4}", *more,
    ]  # fmt: skip


def run(exam, store, *more):
    return evaluate(configs.load(EvaluateConfig, arguments(exam, store, *more)), "cpu").results


def verdicts(store):
    rows = pq.read_table(store / "evaluations/test/items.parquet").to_pylist()
    return {(row["benchmark"], row["item"], row["model"]): row["verdicts"] for row in rows}


def logged(store):
    (folder,) = (store / "attempts").iterdir()
    table = read_table(Store(str(folder)), "", ["problem_id", "index"])
    return sorted(zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True))


def ask(server, config=QUICK, sampling=None, question="What is 1 + 1?", **messages):
    async def once():
        async with Endpoint(server.url, "", config) as endpoint:
            await endpoint.open()
            turns = [{"role": "user", "content": question}]
            return await endpoint.complete(turns, sampling or SamplingConfig(max_tokens=50))

    return asyncio.run(once())


def test_both_ways_give_the_same_verdicts_and_share_no_log(local_ray, exam, tmp_path):
    ours = run(exam, tmp_path / "ours")
    with Served(ENGINE, ANSWERS, delay_s=0.005) as server:
        asked = run(exam, tmp_path / "asked", f"endpoint={server.url}")
        assert server.most_at_once <= 8 and len(server.bodies) == 60
        turns = server.bodies[0]["messages"]
        assert [turn["role"] for turn in turns] == ["system", "user"]
        # in one evaluation: the endpoint against an engine of our own, none of which draws again
        both = run(exam, tmp_path / "both", f"endpoint={server.url}", "against=[scripted]")
    assert sorted(verdicts(tmp_path / "ours").values()) == sorted(
        verdicts(tmp_path / "asked").values()
    )
    scores = [r["runs"][0]["scores"]["exam"] for r in (ours, asked)]
    assert scores[0]["pass@1"] == scores[1]["pass@1"]
    assert scores[0]["shares"] == scores[1]["shares"]
    assert scores[0]["fingerprint"] != scores[1]["fingerprint"]
    assert 0 < scores[0]["pass@1"]["value"] < 1
    assert scores[0]["shares"]["truncated"] > 0 and scores[0]["shares"]["unparsed"] > 0
    (compared,) = both["comparisons"]
    assert compared["same_verdicts"] == 1 and compared["difference"] == 0
    assert len(list((tmp_path / "both/attempts").iterdir())) == 2


def test_a_busy_server_is_waited_for_and_nothing_is_lost(exam, tmp_path):
    def trouble(number, body):
        if number % 3 == 0:
            return web.Response(status=429, headers={"Retry-After": "0.05"})
        if number % 7 == 0:
            return web.Response(status=503, text="overloaded")
        if number % 11 == 0:
            return web.Response(text="<html>not JSON")
        return None

    with Served(ENGINE, ANSWERS, trouble=trouble) as server:
        found = run(exam, tmp_path, f"endpoint={server.url}", "client.attempts=8")
        assert len(server.bodies) > 80
    assert found["runs"][0]["scores"]["exam"]["attempts"] == 60
    assert len(logged(tmp_path)) == len(set(logged(tmp_path))) == 60


def test_retry_after_is_waited_for():
    def trouble(number, body):
        return web.Response(status=429, headers={"Retry-After": "0.6"}) if number == 1 else None

    with Served(ENGINE, ANSWERS, trouble=trouble) as server:
        ask(server)
        assert server.times[1] - server.times[0] > 0.4
    assert retry_after("12") == 12 and retry_after(None) == retry_after("soon") == 0
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


def test_a_request_that_always_fails_ends_the_job_after_the_others(exam, tmp_path):
    def trouble(number, body):
        poisoned = body["messages"][-1]["content"] == "What is 7 + 7?"
        return web.Response(status=500, text="out of luck") if poisoned else None

    with Served(ENGINE, ANSWERS, trouble=trouble) as server:
        with pytest.raises(EndpointError, match=r"1 of 60 attempts .*again\. .*500 out of luck"):
            run(exam, tmp_path, f"endpoint={server.url}")
        assert len(logged(tmp_path)) == 59
        server.trouble = lambda number, body: None
        before = len(server.bodies)
        found = run(exam, tmp_path, f"endpoint={server.url}")
        assert len(server.bodies) == before + 1, "only what was missing is asked for"
    assert found["runs"][0]["drawn"]["reused"] == 59


def test_a_server_that_is_away_is_not_asked_for_everything(exam, tmp_path):
    with Served(ENGINE, ANSWERS, trouble=lambda n, b: web.Response(status=502)) as server:
        with pytest.raises(EndpointError, match=r"failed 4 times, .*502"):
            run(exam, tmp_path, f"endpoint={server.url}")
        assert len(server.bodies) < 60
        url = server.url
    with pytest.raises(GivenUp, match="ConnectError"):
        run(exam, tmp_path, f"endpoint={url}")


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (400, "unknown field top_k", "client.extensions=false"),
        (403, "not yours", "client.key_file"),
        (404, "no such route", "404 no such route"),
    ],
)
def test_a_refusal_is_told_at_once(status, text, words):
    trouble = lambda number, body: web.Response(status=status, text=text)  # noqa: E731
    with Served(ENGINE, ANSWERS, trouble=trouble) as server:
        with pytest.raises(EndpointError, match=words):
            ask(server)
        assert len(server.bodies) == 1


def test_keys_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    with Served(ENGINE, ANSWERS, key="secret") as server:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(EndpointError, match=r"401 .*no such key") as caught:
            ask(server)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert ask(server).text
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        (tmp_path / "key").write_text("secret\n")
        assert ask(server, ClientConfig(key_file=str(tmp_path / "key"))).text
        with pytest.raises(ValueError, match=r"client\.key_file: '/none'"):
            ask(server, ClientConfig(key_file="/none"))
    assert "secret" not in str(caught.value)


def test_a_prompt_that_fills_the_context_is_an_empty_completion_as_from_our_engine():
    text = ("This model's maximum context length is 512 tokens. However, your prompt contains {} "
            "input tokens")  # fmt: skip

    def trouble(number, body):
        if body["max_tokens"] > 12:
            return web.Response(status=400, text=text.format(500))
        return None

    with Served(ENGINE, ANSWERS, trouble=trouble) as server:
        assert ask(server).completion_tokens <= 12
        assert server.bodies[-1]["max_tokens"] == 12, "what room there is is used"
        server.trouble = lambda number, body: web.Response(status=400, text=text.format(512))
        found = ask(server)
        assert (found.text, found.finish_reason, found.completion_tokens) == ("", "length", 0)
        server.trouble = lambda n, b: web.Response(status=400, text="context_length_exceeded")
        with pytest.raises(EndpointError, match="context_length_exceeded"):
            ask(server)


def test_thinking_that_the_server_took_out_is_put_back():
    with Served(ENGINE, ANSWERS, thinking=True) as server:
        text = ask(server).text
    assert text.startswith("<think>\n") and text.count("</think>") == 1


def test_what_is_sent():
    with Served(ENGINE, ANSWERS) as server:
        plain = SamplingConfig(temperature=0.6, top_p=0.9, max_tokens=50, stop=["END"])
        ask(server, QUICK, plain)
        ask(server, ClientConfig(extensions=False, body={"thinking": 9}), plain)
        ask(server, QUICK, SamplingConfig(max_tokens=9, loop_count=6))
    first, second, third = server.bodies
    assert first["temperature"] == 0.6 and first["top_p"] == 0.9 and first["stop"] == ["END"]
    assert first["top_k"] == 0 and first["repetition_penalty"] == 1.0
    assert "top_k" not in second and second["thinking"] == 9
    assert third["repetition_detection"] == {"max_pattern_size": 64, "min_count": 6}


def test_the_log_is_named_by_what_the_server_tells_or_by_what_the_config_says(exam, tmp_path):
    def fingerprint(server, *more):
        few = "benchmarks[0].source.limit=5"
        found = run(exam, tmp_path, f"endpoint={server.url}", few, *more)
        return found["runs"][0]["scores"]["exam"]["fingerprint"]

    with Served(ENGINE, ANSWERS) as a, Served(ENGINE, ANSWERS) as b:
        assert fingerprint(a) == fingerprint(a) != fingerprint(b)
        known = fingerprint(a, "client.identity=run 7")
        assert known == fingerprint(b, "client.identity=run 7") != fingerprint(a)
        assert fingerprint(a, "client.body={thinking: 1}") != fingerprint(a)
        a.about["root"] = "/models/other"
        assert fingerprint(a) != fingerprint(b)
        with pytest.raises(EndpointError, match=r"'gpt' is none of those at .* \(scripted\)"):
            run(exam, tmp_path, f"endpoint={a.url}", "model=gpt")
        a.about["max_model_len"] = 64
        with pytest.raises(ValueError, match="max_tokens: 100 is more than the context"):
            run(exam, tmp_path, f"endpoint={a.url}")


def test_kill_9_costs_nothing_that_was_logged(exam, tmp_path):
    with Served(ENGINE, ANSWERS, delay_s=0.25) as server:
        config = tmp_path / "config.yaml"
        config.write_text("")
        command = [sys.executable, "jobs/evaluate.py", str(config)]
        command += arguments(exam, tmp_path, f"endpoint={server.url}", "client.concurrency=4")
        job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.time() + 60
        while len(list(tmp_path.glob("attempts/*/*.parquet"))) < 2:
            assert time.time() < deadline and job.poll() is None, job.communicate()[0]
            time.sleep(0.02)
        os.kill(job.pid, signal.SIGKILL)
        job.communicate()
        kept = logged(tmp_path)
        assert 0 < len(kept) < 60
        server.delay_s = 0
        before = len(server.bodies)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Ray" not in done.stderr and "report.html" in done.stdout
        assert len(server.bodies) - before == 60 - len(kept)
    after = logged(tmp_path)
    assert len(after) == len(set(after)) == 60 and set(kept) <= set(after)
