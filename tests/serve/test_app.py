"""The endpoint for real: jobs/serve.py with the packaged model, asked by the openai client.

One start for all of it, in this file's order: the last tests kill the replica and stop the job.
"""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer

from limo_ray.storage import model_files

ROOT = Path(__file__).parent.parent.parent
KEY = "a-key-for-these-tests"
MODEL, ADAPTER = "small", "adapted"
pytestmark = pytest.mark.engine


def base_model() -> Any:
    from transformers import AutoModelForCausalLM

    folder = model_files.resolve(model_files.PACKAGED)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)


def adapter(folder: Path) -> Path:
    """The folder of an adapter that changes what the model says."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    lm = get_peft_model(base_model(), config)
    for name, weights in lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.4)
    lm.save_pretrained(folder / "adapter")
    return folder / "adapter"


class Endpoint:
    """The job, its processes and its address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        keys = folder / "keys.txt"
        keys.write_text(f"tests {KEY}\n")
        self.folder = folder
        self.log = folder / "log.txt"
        self.url = f"http://127.0.0.1:{port}"
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        self.job = subprocess.Popen(
            [sys.executable, "jobs/serve.py", "conf/serve/laptop.yaml", f"port={port}",
             f"served_name={MODEL}", f"adapters={{{ADAPTER}: {adapter(folder)}}}",
             f"gate.keys_file={keys}", "engine.max_num_seqs=16", "engine.max_model_len=1024",
             "engine.kv_cache_gib=1", "drain_s=30", "accept_s=10"],
            cwd=ROOT, stdout=self.log.open("w"), stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip

    def ready(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.job.poll() is None, self.log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"not ready after {seconds} s: {self.log.read_text()[-3000:]}")

    def process(self, name: str) -> psutil.Process:
        children = psutil.Process(self.job.pid).children(recursive=True)
        (found,) = [child for child in children if name in " ".join(child.cmdline())]
        return found

    def idle(self) -> bool:
        """Whether the engine's process does nothing for a second."""
        children = psutil.Process(self.job.pid).children(recursive=True)
        engine = [child for child in children if "EngineCore" in child.name()]
        assert engine
        before = [sum(child.cpu_times()[:2]) for child in engine]
        time.sleep(1)
        after = [sum(child.cpu_times()[:2]) for child in engine]
        return sum(after) - sum(before) < 0.2

    def post(
        self, body: Any, path: str = "chat/completions", timeout: float = 120
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.post(f"{self.url}/v1/{path}", json=body, headers=headers, timeout=timeout)

    def stream(self, body: Any) -> Any:
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"{self.url}/v1/chat/completions"
        return httpx.stream("POST", url, json=body | {"stream": True}, headers=headers, timeout=120)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    model_files.packaged()
    made = Endpoint(tmp_path_factory.mktemp("serve"))
    try:
        made.ready(200)
        yield made
    finally:
        if made.job.poll() is None:
            made.job.send_signal(signal.SIGTERM)
            try:
                made.job.wait(60)
            except subprocess.TimeoutExpired:
                made.job.kill()


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=KEY, max_retries=0, timeout=120)


def asked(text: str = "What is 3 + 4?", **fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0,
        "max_tokens": 24, **fields,
    }  # fmt: skip


def forced(**fields: Any) -> dict[str, Any]:
    """A request with a thinking budget; `ignore_eos` and the like would not be forced."""
    return asked(extra_body=fields.pop("budget"), **fields)


def test_models_and_keys(endpoint: Endpoint, client: openai.OpenAI) -> None:
    model, adapted = client.models.list().data
    assert (model.id, model.max_model_len) == (MODEL, 1024)
    assert (adapted.id, adapted.parent) == (ADAPTER, MODEL)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="another").chat.completions.create(**asked())
    assert httpx.get(f"{endpoint.url}/v1/models").status_code == 401
    assert httpx.get(f"{endpoint.url}/health").status_code == 200


def test_model_and_adapter_answer_as_they_do_offline(
    endpoint: Endpoint, client: openai.OpenAI
) -> None:
    """Log-probabilities of the next token, as near as two ways to compute in bfloat16 come."""
    prompt = "The sum of three and four is"
    folder = model_files.resolve(model_files.PACKAGED)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = base_model()
    adapted = PeftModel.from_pretrained(base, endpoint.folder / "adapter")

    def offline() -> Any:
        return (
            adapted(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].float().log_softmax(0)
        )

    with torch.no_grad():
        expected = {ADAPTER: offline()}
        with adapted.disable_adapter():
            expected[MODEL] = offline()
    assert (expected[ADAPTER] - expected[MODEL]).abs().max() > 1
    for model, other in ((MODEL, ADAPTER), (ADAPTER, MODEL)):
        answer = client.completions.create(model=model, prompt=prompt, max_tokens=1, logprobs=5)
        assert answer.model == model
        found = answer.choices[0].logprobs.top_logprobs[0]
        tokens = [token for text in found for token in tokenizer.encode(text)]
        values = torch.tensor(list(found.values()))
        errors = {name: (values - expected[name][tokens]).abs().mean() for name in expected}
        assert errors[model] < min(0.3, errors[other] / 2)
    forced = {"max_thinking_tokens": 4}
    chats = [client.chat.completions.create(**asked(model=model, extra_body=forced))
             for model in expected]  # fmt: skip
    assert chats[0].choices[0].message.content != chats[1].choices[0].message.content


def test_a_chat_has_the_recipes_system_prompt(client: openai.OpenAI) -> None:
    from limo_ray.core.prompts import SYSTEM

    plain = client.chat.completions.create(**asked())
    assert plain.choices[0].message.role == "assistant"
    assert plain.choices[0].finish_reason in ("stop", "length")
    assert plain.usage.completion_tokens <= 24
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
    spelled = asked()
    spelled["messages"].insert(0, {"role": "system", "content": SYSTEM})
    same = client.chat.completions.create(**spelled)
    assert same.choices[0].message.content == plain.choices[0].message.content
    spelled["messages"][0]["content"] = "Be brief."
    assert client.chat.completions.create(**spelled).usage.prompt_tokens < same.usage.prompt_tokens


def test_several_choices_with_log_probabilities(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        **asked(n=3, temperature=1.0, logprobs=True, top_logprobs=2, seed=1)
    )
    assert sorted(choice.index for choice in made.choices) == [0, 1, 2]
    assert len({choice.message.content for choice in made.choices}) > 1
    counts = [len(choice.logprobs.content) for choice in made.choices]
    assert sum(counts) == made.usage.completion_tokens
    assert all(len(token.top_logprobs) == 2 for token in made.choices[0].logprobs.content)
    again = client.chat.completions.create(
        **asked(n=3, temperature=1.0, logprobs=True, top_logprobs=2, seed=1)
    )
    assert again.choices[0].message.content == made.choices[0].message.content


def test_seeds_do_no_harm(endpoint: Endpoint) -> None:
    """vLLM's CPU engine dies of a seed whose prompt is read in parts."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        long = [f"{i} " + "some other words " * 200 for i in range(6)]
        answers = pool.map(
            lambda text: endpoint.post(
                {"model": MODEL, "prompt": text, "seed": 3, "max_tokens": 4}, "completions"
            ),
            long,
        )
        assert {answer.status_code for answer in answers} == {200}


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asked())
    text, usage, finish = "", None, None
    for event in client.chat.completions.create(
        **asked(stream=True, stream_options={"include_usage": True})
    ):
        usage = event.usage or usage
        for choice in event.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text == whole.choices[0].message.content
    assert (finish, usage) == (whole.choices[0].finish_reason, whole.usage)


def test_completions_stop_strings_and_limits(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "prompt": "1, 2, 3, 4,", "temperature": 0}
    made = client.completions.create(**fields, max_tokens=20)
    assert "5" in made.choices[0].text
    cut = client.completions.create(**fields, max_tokens=20, stop=["7"])
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].text == made.choices[0].text.partition("7")[0]
    short = client.completions.create(**fields, max_tokens=3)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)
    made = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_completion_tokens=2
    )
    assert made.usage.completion_tokens <= 2


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (asked(model="no-such"), 404, "no-such"),
        (asked(temperature=-1), 400, "temperature"),
        (asked(messages="x"), 400, "messages"),
        (asked("long " * 3000), 400, "context"),
        (asked(waits=-1), 400, "waits"),
        (asked(max_thinking_tokens=-5), 400, "max_thinking_tokens"),
        (asked(min_thinking_tokens="a"), 400, "min_thinking_tokens"),
        (asked(vllm_xargs={"a": 1}), 400, "vllm_xargs"),
        (asked(n=1000), 400, "n"),
        (asked(stream=True, stop_token_ids=[10**9]), 400, "stop_token_ids"),
        (asked(structured_outputs={"json": {"$ref": "#"}}), 400, "schema"),
    ],
)
def test_errors_are_openais(endpoint: Endpoint, body: Any, status: int, word: str) -> None:
    answer = endpoint.post(body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert word in answer.json()["error"]["message"]
    assert {"message", "type", "param", "code"} <= set(answer.json()["error"])


def text_of(made: Any) -> str:
    return made.choices[0].message.content


def test_thinking_is_closed_at_its_budget(client: openai.OpenAI) -> None:
    free = text_of(client.chat.completions.create(**asked(max_tokens=60)))
    made = client.chat.completions.create(
        **forced(max_tokens=60, budget={"max_thinking_tokens": 8})
    )
    before, mark, after = text_of(made).partition("\n\nFinal Answer:")
    assert mark and after
    assert free.startswith(before)
    nothing = text_of(client.chat.completions.create(**forced(budget={"max_thinking_tokens": 0})))
    assert nothing.startswith("Final Answer:")
    larger = client.chat.completions.create(**forced(budget={"max_thinking_tokens": 10**6}))
    assert larger.usage.completion_tokens <= 24


def test_an_end_becomes_a_wait(client: openai.OpenAI) -> None:
    question = "Say hello and nothing else."
    free = client.chat.completions.create(**asked(question, max_tokens=100))
    assert free.choices[0].finish_reason == "stop"
    made = client.chat.completions.create(
        **forced(text=question, max_tokens=200, logprobs=True, budget={"waits": 2})
    )
    assert text_of(made).startswith(text_of(free) + "\n\nWait")
    assert text_of(made).count("Wait") >= 2
    content = made.choices[0].logprobs.content
    assert len(content) == made.usage.completion_tokens
    put_in = [token for token in content if token.token == "Wait"]
    assert put_in[0].logprob == 0.0
    least = client.chat.completions.create(
        **forced(text=question, max_tokens=200, budget={"min_thinking_tokens": 60})
    )
    assert least.usage.completion_tokens >= 60


def test_a_forced_stream_is_the_forced_answer(client: openai.OpenAI) -> None:
    for n, temperature in ((1, 0.0), (2, 0.7)):
        fields = {
            "n": n, "temperature": temperature, "seed": 5, "max_tokens": 80,
            "budget": {"waits": 1, "max_thinking_tokens": 30},
        }  # fmt: skip
        whole = client.chat.completions.create(**forced(**fields))
        texts, usage, finishes, tokens = [""] * n, None, [None] * n, 0
        for event in client.chat.completions.create(
            **forced(**fields, stream=True, logprobs=True, stream_options={"include_usage": True})
        ):
            usage = event.usage or usage
            for choice in event.choices:
                texts[choice.index] += choice.delta.content or ""
                tokens += len(choice.logprobs.content) if choice.logprobs else 0
                assert not finishes[choice.index]
                finishes[choice.index] = choice.finish_reason
        assert all(finishes)
        assert usage.completion_tokens == tokens
        assert all("Final Answer:" in text for text in texts)
        if n == 1:
            assert texts == [choice.message.content for choice in whole.choices]
            assert usage == whole.usage


def test_a_client_that_leaves_frees_the_engine(endpoint: Endpoint) -> None:
    body = asked(max_tokens=900, ignore_eos=True, n=4, temperature=1)
    for more in ({}, {"max_thinking_tokens": 800}):
        with pytest.raises(httpx.TimeoutException):
            endpoint.post(body | more, timeout=1.5)
        with endpoint.stream(body | more) as answer:
            next(answer.iter_lines())
    deadline = time.time() + 10  # of 16 answers with 900 tokens each: they would take a minute
    while not (idle := endpoint.idle()) and time.time() < deadline:
        time.sleep(1)
    assert idle


def test_many_clients_are_all_answered(client: openai.OpenAI) -> None:
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        made = list(
            pool.map(
                lambda i: client.chat.completions.create(
                    **asked(f"What is {i} + 1?", max_tokens=8)
                ),
                range(40),
            )
        )
    assert all(one.usage.completion_tokens > 0 for one in made)


def test_a_killed_replica_is_replaced_and_nobody_hangs(endpoint: Endpoint) -> None:
    body = asked(max_tokens=800, ignore_eos=True)

    def whole(_: int) -> tuple[int, dict[str, Any]]:
        answer = endpoint.post(body)
        return answer.status_code, answer.json()

    begun = threading.Semaphore(0)

    def streamed(_: int) -> list[str]:
        lines = []
        with endpoint.stream(body) as answer:
            for line in filter(None, answer.iter_lines()):
                if not lines:
                    begun.release()
                lines.append(line)
        return lines

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(streamed, i) for i in range(3)]
        wholes = [pool.submit(whole, i) for i in range(3)]
        for _ in streams:  # a stream that has begun cannot go to another replica
            assert begun.acquire(timeout=60)
        killed = time.monotonic()
        endpoint.process("ServeReplica:laptop:Replica").kill()
        for future in wholes:
            status, told = future.result(60)
            assert (status, told["error"]["code"]) == (503, "no_replica"), told
        for future in streams:
            lines = future.result(60)
            assert lines[-1] == "data: [DONE]"
            assert json.loads(lines[-2][6:])["error"]["code"] == "replica_lost"
    assert time.monotonic() - killed < 40
    endpoint.ready(150)
    assert endpoint.post(asked()).status_code == 200


def test_an_interrupt_drains(endpoint: Endpoint) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(endpoint.post, asked(max_tokens=300, ignore_eos=True))
        time.sleep(1)
        endpoint.job.send_signal(signal.SIGTERM)
        time.sleep(1)
        late = endpoint.post(asked())
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "draining"
        answer = running.result(60)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 300
    assert endpoint.job.wait(60) == 0
    assert "laptop stopped after" in endpoint.log.read_text()
