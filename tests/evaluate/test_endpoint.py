"""Evaluations over an endpoint: the same scores as ours, faults of server and store, resuming."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from ray.exceptions import RayError

from limo_ray.attempts.parts import read_table
from limo_ray.core import config as configs
from limo_ray.core.errors import EngineError, reason
from limo_ray.core.prompts import SYSTEM
from limo_ray.engines import api
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.evaluate.config import ClientConfig, EvaluateConfig
from limo_ray.evaluate.models import evaluated_models
from limo_ray.evaluate.runner import evaluate
from limo_ray.storage.store import Store
from tests import processes
from tests.evaluate.server import Served, completion, cut_connection, drip_feed, endless

ROOT = Path(__file__).parents[2]
ENGINE = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.4, max_num_seqs=16, seed=3,
    script={"tokens": 60, "unparsed": 0.1},
)  # fmt: skip
ANSWERS = {f"What is {n} + {n}?": str(2 * n) for n in range(60)}


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


def question(body):
    return body["messages"][-1]["content"]


def test_both_ways_give_the_same_verdicts_and_share_no_log(local_ray, exam, tmp_path):
    ours = run(exam, tmp_path / "ours")
    with Served(ENGINE, ANSWERS, delay_s=0.005) as server:
        asked = run(exam, tmp_path / "asked", f"endpoint={server.url}")
        assert server.most_at_once <= 8 and len(server.bodies) == 60
        turns = server.bodies[0]["messages"]
        assert [turn["role"] for turn in turns] == ["system", "user"]
        # in one evaluation: the endpoint against an engine of our own
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
    assert asked["runs"][0]["endpoint"] == server.url and "engine" not in asked["runs"][0]
    assert asked["runs"][0]["served"]["max_model_len"] == 4096
    assert (
        ours["runs"][0]["engine"]["kind"] == "scripted" and "api" not in ours["runs"][0]["engine"]
    )
    (compared,) = both["comparisons"]
    assert compared["same_verdicts"] == 1 and compared["difference"] == 0
    assert len(list((tmp_path / "both/attempts").iterdir())) == 2


def test_faults_of_the_server_lose_nothing_and_change_no_score(local_ray, exam, tmp_path):
    with Served(ENGINE, ANSWERS) as server:
        right = run(exam, tmp_path / "right", f"endpoint={server.url}")
        server.bodies.clear()
        begun = time.monotonic()
        faults = [
            web.Response(status=429, headers={"Retry-After": "0.05"}),
            web.Response(status=503, text="overloaded"),
            web.Response(text="<html>not JSON", content_type="text/html"),
            web.json_response({"error": "wrong JSON"}),
            completion(message={"content": ["no", "text"]}),
            cut_connection, drip_feed, endless,
        ]  # fmt: skip

        def trouble(number, body):
            if time.monotonic() - begun < 8 and number > 20:  # away for a while
                return web.Response(status=500)
            return faults[number // 3 % len(faults)] if number % 3 == 0 else None

        server.trouble = trouble
        patient = ("client.attempts=200", "client.timeout_s=1")
        found = run(exam, tmp_path / "faulty", f"endpoint={server.url}", *patient)
        assert len(server.bodies) > 80
    assert (
        found["runs"][0]["scores"]["exam"]["pass@1"] == right["runs"][0]["scores"]["exam"]["pass@1"]
    )
    assert verdicts(tmp_path / "faulty") == verdicts(tmp_path / "right")
    assert len(logged(tmp_path / "faulty")) == len(set(logged(tmp_path / "faulty"))) == 60


def test_odd_completions_are_logged(local_ray, exam, tmp_path):
    """Lone surrogates and empty answers: no attempt is lost, none is asked for twice."""
    odd = [
        completion(message={"content": "\ud800 \\boxed{2}"}),
        completion(message={"content": None}),
        completion(message={"content": "\\boxed{0}", "reasoning_content": "\udfff"}),
    ]
    with Served(ENGINE, ANSWERS, trouble=lambda number, body: odd[number % 3]) as server:
        found = run(exam, tmp_path, f"endpoint={server.url}")
        assert len(server.bodies) == 60
    counts = found["runs"][0]["scores"]["exam"]["verdicts"]
    assert counts["unparsed"] == 20 and counts["correct"] + counts["wrong"] == 40, counts
    (folder,) = (tmp_path / "attempts").iterdir()
    texts = read_table(Store(str(folder)), "", ["completion"])["completion"].to_pylist()
    assert sorted(set(texts)) == ["", "<think>\n?\n</think>\n\n\\boxed{0}", "? \\boxed{2}"]


def test_a_store_that_is_away_for_a_while_costs_nothing(local_ray, exam, tmp_path):
    """Writes fail in the middle of the job: they are made up for later."""
    done: list[object] = []
    with Served(ENGINE, ANSWERS, delay_s=0.4) as server:
        settings = (f"endpoint={server.url}", "client.concurrency=4")
        job = threading.Thread(target=lambda: done.append(run(exam, tmp_path, *settings)))
        job.start()
        deadline = time.time() + 60
        while not (parts := list(tmp_path.glob("attempts/*/*.parquet"))):
            assert time.time() < deadline and job.is_alive()
            time.sleep(0.02)
        folder, aside = parts[0].parent, tmp_path / "aside"
        folder.rename(aside)
        folder.write_text("no folder: every write fails")
        written, asked = len(list(aside.iterdir())), len(server.bodies)
        while len(server.bodies) < asked + 12:  # some flushes later
            assert time.time() < deadline and job.is_alive()
            time.sleep(0.02)
        assert len(list(aside.iterdir())) == written
        folder.unlink()
        aside.rename(folder)
        job.join(60)
        assert done and len(server.bodies) == 60, "nothing was asked for again"
    assert len(logged(tmp_path)) == len(set(logged(tmp_path))) == 60


def test_a_request_that_always_fails_ends_the_job_after_the_others(local_ray, exam, tmp_path):
    def trouble(number, body):
        poisoned = question(body) == "What is 7 + 7?"
        return web.Response(status=500, text="out of luck") if poisoned else None

    # longer than the verifier takes for the others' answers
    patient = ("client.wait_s=1", "client.longest_wait_s=1", "client.attempts=12")
    with Served(ENGINE, ANSWERS, trouble=trouble, delay_s=0.02) as server:
        with pytest.raises(RayError) as caught:
            run(exam, tmp_path, f"endpoint={server.url}", *patient)
        assert "failed" in reason(caught.value) and "500 out of luck" in reason(caught.value)
        assert len(logged(tmp_path)) == 59
        server.trouble = lambda number, body: None
        before = len(server.bodies)
        found = run(exam, tmp_path, f"endpoint={server.url}")
        assert len(server.bodies) == before + 1, "only what was missing is asked for"
    assert found["runs"][0]["attempts"]["reused"] == 59


def test_a_server_that_is_away_is_not_asked_for_everything(local_ray, exam, tmp_path):
    with Served(ENGINE, ANSWERS, trouble=lambda n, b: web.Response(status=502)) as server:
        with pytest.raises(RayError) as caught:
            run(exam, tmp_path, f"endpoint={server.url}")
        assert "failed 4 times, the last time: 502" in reason(caught.value)
        assert len(server.bodies) < 60
        url = server.url
    with pytest.raises(EngineError, match="ConnectError"):
        run(exam, tmp_path, f"endpoint={url}")


def test_a_refusal_ends_the_job_in_one_line(local_ray, exam, tmp_path):
    refused = web.Response(status=400, text="unknown\nfield top_k")
    with Served(ENGINE, ANSWERS, trouble=lambda n, b: refused) as server:
        with pytest.raises(RayError) as caught:
            run(exam, tmp_path, f"endpoint={server.url}")
        assert len(server.bodies) <= 9
    assert "400 unknown field top_k (for servers" in reason(caught.value)


ABOUT = {"id": "m", "object": "model", "owned_by": "vllm", "root": "/models/m",
         "max_model_len": 4096}  # fmt: skip
GREEDY = SamplingConfig(temperature=0, max_tokens=100)
FREE = SamplingConfig(temperature=0.6, top_p=0.9, max_tokens=100, stop=["END"], loop_count=6)
TIGHT = ClientConfig(extensions=False, body={"max_thinking_tokens": 8000, "waits": 2})


@pytest.mark.parametrize(
    ("known", "sampling", "client", "about", "system"),
    [
        ("3fac3c7671cfe642", GREEDY, ClientConfig(), ABOUT, SYSTEM),
        ("0535d38722622974", FREE, ClientConfig(), ABOUT, SYSTEM),
        ("6108e48034b3633c", GREEDY, ClientConfig(identity="run 7"), ABOUT, SYSTEM),
        ("38fe1c27b1a11495", GREEDY, TIGHT, ABOUT, SYSTEM),
        ("1b1bde98e41603a7", GREEDY, ClientConfig(), {"id": "m", "object": "model"}, ""),
    ],
)
def test_logs_of_the_first_version_are_used_again(
    monkeypatch, known, sampling, client, about, system
):
    """Fingerprints as version 0.1's client over httpx made them, computed with its code."""
    monkeypatch.setattr(api, "find_model", lambda engine: about)
    config = EvaluateConfig(model="", endpoint="http://host:8000/v1/", client=client, system=system)
    (model,) = evaluated_models(config, "cpu")
    model.identify()
    assert model.name == "m" and model.fingerprint(sampling) == known


def test_the_log_is_named_by_what_the_server_tells_or_by_what_the_config_says(exam, tmp_path):
    def fingerprint(server, *more):
        both = (f"endpoint={server.url}", f"against=['{server.url}']")
        config = configs.load(EvaluateConfig, arguments(exam, tmp_path, *both, *more))
        first, other = evaluated_models(config, "cpu")
        first.identify()
        other.identify()
        fingerprints.append(other.fingerprint(GREEDY))
        return first.fingerprint(GREEDY)

    fingerprints: list[str] = []
    with Served(ENGINE, ANSWERS) as a, Served(ENGINE, ANSWERS) as b:
        assert fingerprint(a) == fingerprint(a) != fingerprint(b)
        known = fingerprint(a, "client.identity=run 7")
        assert known == fingerprint(b, "client.identity=run 7") != fingerprint(a)
        assert fingerprint(a, "client.body={thinking: 1}") != fingerprint(a)
        a.about["root"] = "/models/other"
        assert fingerprint(a) != fingerprint(b)
        with pytest.raises(EngineError, match=r"'gpt' is none of those at .* \(scripted\)"):
            run(exam, tmp_path, f"endpoint={a.url}", "model=gpt")
        a.about["max_model_len"] = 64
        with pytest.raises(ValueError, match="max_tokens: 100 is more than the context"):
            run(exam, tmp_path, f"endpoint={a.url}")


@pytest.mark.ray
def test_kill_9_costs_nothing_that_was_logged(exam, tmp_path):
    """And the key, of the environment, stands in no file and no output."""
    store = tmp_path / "store"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["OPENAI_API_KEY"] = "sesame"
    with Served(ENGINE, ANSWERS, delay_s=0.4, key="sesame") as server:
        config = tmp_path / "config.yaml"
        config.write_text("")
        command = [sys.executable, "jobs/evaluate.py", str(config)]
        command += arguments(exam, store, f"endpoint={server.url}", "client.concurrency=4")
        job = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        deadline = time.time() + 120
        while len(list(store.glob("attempts/*/*.parquet"))) < 2:
            assert time.time() < deadline and job.poll() is None, job.communicate()[0]
            time.sleep(0.02)
        family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
        os.kill(job.pid, signal.SIGKILL)
        processes.end(family)
        job.communicate()
        kept = logged(store)
        assert 0 < len(kept) < 60
        server.delay_s = 0
        before = len(server.bodies)
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert "report.html" in done.stdout
        assert processes.quiet(done.stdout + done.stderr)
        assert len(server.bodies) - before == 60 - len(kept)
    after = logged(store)
    assert len(after) == len(set(after)) == 60 and set(kept) <= set(after)
    files = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
    assert not any(b"sesame" in text for text in [*files, (done.stdout + done.stderr).encode()])
