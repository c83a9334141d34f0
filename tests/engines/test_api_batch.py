"""Completions by batches: each request is submitted once, whatever fails and whenever we die."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from limo_ray.core.errors import EngineError
from limo_ray.core.records import Problem, problem_id
from limo_ray.engines.api_config import ApiConfig, BatchConfig
from limo_ray.engines.base import Completion, EngineConfig, Request, SamplingConfig, create
from tests.engines.batch_server import BatchServed

SCRIPTED = EngineConfig(
    model="scripted", kind="scripted", device="cpu", num_cpus=0.4, max_num_seqs=64, seed=3,
    script={"tokens": 60},
)  # fmt: skip
ANSWERS = {f"What is {n} + {n}?": str(2 * n) for n in range(12)}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server():
    with BatchServed(SCRIPTED, ANSWERS) as server:
        yield server


def config(url: str, folder: Path, **changes: object) -> EngineConfig:
    settings = {"requests": 5, "collect_s": 0.1, "poll_s": 0.02, "settle_s": 0.1}
    batch = BatchConfig(**settings | {"folder": str(folder)} | changes)
    api = ApiConfig(wait_s=0.02, longest_wait_s=0.1, attempts=6, timeout_s=5, batch=batch)
    return EngineConfig(
        model="scripted", kind="api", url=url, api=api, max_num_seqs=64, device="cpu"
    )


async def complete(engine_config: EngineConfig, questions: list[str]) -> list[Completion]:
    engine = create(engine_config)
    await engine.start()

    def request(question: str) -> Request:
        return Request(
            problem=Problem(id=problem_id(question), question=question, answer="",
                            source=""),
            index=0, prompt=engine.render([{"role": "user", "content": question}]),
            sampling=SamplingConfig(max_tokens=50),
        )  # fmt: skip

    try:
        return await asyncio.gather(*(engine.generate(request(each)) for each in questions))
    finally:
        engine.shutdown()


def run(server: BatchServed, folder: Path, **changes: object) -> list[Completion]:
    return asyncio.run(complete(config(server.url, folder, **changes), list(ANSWERS)))


def test_batches_are_no_larger_than_asked_for_and_hold_each_request_once(server, tmp_path):
    server.polls = 3
    found = run(server, tmp_path)
    assert all(each.text and each.completion_tokens for each in found)
    sizes = sorted(len(server.files[b["input_file_id"]].splitlines())
                   for b in server.batches.values())  # fmt: skip
    assert sizes == [2, 5, 5]
    assert len(server.submitted) == 12 and set(server.submitted.values()) == {1}
    assert all(len(name) <= 64 for name in server.submitted)
    assert server.asked == dict.fromkeys(ANSWERS, 1)
    assert run(server, tmp_path) == found, "what a batch holds is fetched, not asked for"
    assert len(server.batches) == 3


def test_a_batch_costs_its_share_of_the_price():
    api = ApiConfig(input_price=2, output_price=10)
    assert api.dollars(1_000_000, 500_000) == 7
    batched = ApiConfig(input_price=2, output_price=10, batch=BatchConfig(requests=1))
    assert batched.dollars(1_000_000, 500_000) == 3.5


@pytest.mark.parametrize("step", ["file", "create", "look", "content"])
@pytest.mark.parametrize(
    "fault",
    [web.Response(status=500), web.Response(status=429, headers={"Retry-After": "0.05"}),
     web.Response(text="<html>"), web.json_response({"error": "odd"})],
    ids=["500", "429", "html", "odd"],
)  # fmt: skip
def test_faults_at_any_step_submit_nothing_twice(server, tmp_path, step, fault):
    """The server does what it was asked for; the answer is lost."""
    left = {"file": 2, "create": 1, "look": 2, "content": 2}

    def lost(at):
        if at != step or not left[at]:
            return None
        left[at] -= 1
        return web.Response(status=fault.status, headers=fault.headers, body=fault.body)

    server.fault = lost
    found = run(server, tmp_path)
    assert all(each.text for each in found) and left[step] == 0
    assert len(server.submitted) == 12 and set(server.submitted.values()) == {1}


DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.engines.test_api_batch import ANSWERS, complete, config
asyncio.run(complete(config(sys.argv[1], Path(sys.argv[2])), list(ANSWERS)))
"""


@pytest.mark.process
@pytest.mark.parametrize("step", ["file", "create", "look", "content"])
def test_kill_9_at_any_step_submits_nothing_twice(server, tmp_path, step):
    """The process dies while the server answers, twice; then the job ends."""
    seen: list[str] = []
    for killed in range(2):
        command = [sys.executable, "-c", DRIVER, server.url, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT) as job:

            def kill(at, job=job):
                if at == step and job.poll() is None:
                    seen.append(at)
                    os.kill(job.pid, signal.SIGKILL)
                return None

            server.fault = kill
            job.wait(60)
        assert job.returncode == -signal.SIGKILL, f"start {killed} ended before {step}"
    server.fault = lambda at: None
    command = [sys.executable, "-c", DRIVER, server.url, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0 and len(seen) >= 2
    assert len(server.submitted) == 12 and set(server.submitted.values()) == {1}
    assert server.asked == dict.fromkeys(ANSWERS, 1)


def test_requests_without_an_answer_go_into_a_further_batch(server, tmp_path):
    server.status = "expired"

    def line(request):
        first = server.submitted[request["custom_id"]] == 1
        question = request["body"]["messages"][-1]["content"]
        if first and question == "What is 1 + 1?":
            return None
        if first and question == "What is 2 + 2?":
            expired = {"code": "batch_expired", "message": "too late"}
            return {"custom_id": request["custom_id"], "response": None, "error": expired}
        if first and question == "What is 3 + 3?":
            down = {"status_code": 500, "body": {"error": "down"}}
            return {"custom_id": request["custom_id"], "response": down, "error": None}
        return server.line(request)

    server.lines = line
    found = run(server, tmp_path)
    assert all(each.text for each in found)
    assert sorted(server.submitted.values()) == [1] * 9 + [2] * 3
    assert server.asked == dict.fromkeys(ANSWERS, 1)


def test_what_the_server_refuses_ends_the_job_and_is_submitted_anew_next_time(server, tmp_path):
    server.status = "failed"
    with pytest.raises(EngineError, match="no money left"):
        run(server, tmp_path, requests=50)
    server.status = "completed"
    assert len(run(server, tmp_path, requests=50)) == 12
    assert len(server.batches) == 2

    server.lines = lambda request: None
    with pytest.raises(EngineError, match="no answer in 2 batches, the last time: the results"):
        run(server, tmp_path / "other", tries=2)


def test_a_prompt_that_fills_the_context_is_an_empty_completion(server, tmp_path):
    message = "This model's maximum context length is 4096 tokens, 4096 in the messages"

    def line(request):
        refused = {"status_code": 400, "body": {"error": {"message": message}}}
        return {"custom_id": request["custom_id"], "response": refused, "error": None}

    server.lines = line
    found = run(server, tmp_path)
    assert {(each.text, each.finish_reason, each.prompt_tokens) for each in found} == {
        ("", "length", 4096)
    }


def test_the_intent_is_on_disk_before_anything_is_sent(server, tmp_path):
    noted: list[int] = []

    def fault(step):
        if step == "file":
            batches = [json.loads(f.read_text()) for f in tmp_path.glob("*.json")]
            noted.append(sum(len(b["requests"]) for b in batches if not b["id"]))
        return None

    server.fault = fault
    run(server, tmp_path, requests=50)
    assert noted == [12]
    [batch] = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert batch["id"] == "batch-0" and set(batch["requests"]) == set(server.submitted)
