"""The endpoint's throughput and time to first token beside `vllm serve` alone.

    python bench/serve.py [--model packaged/SmolLM2-135M-Instruct] [--rounds 3] [--requests 64]
        [--clients 32] [--preset conf/serve/laptop.yaml] [--vllm "--flags of vLLM's server"]

Both serve the same model with the same engine settings, on the same cores, and are up for the whole
run; an idle engine takes no CPU. They take turns: the clients each send their next chat as soon as
the last one is answered, until all are. Every answer has as many tokens (ignore_eos), so tokens/s
are requests/s. Streamed and whole answers are measured apart; a third time our endpoint is asked by
an engine of kind api, as a curation asks it, beside the plain clients of vllm serve. Printed are
the medians over rounds of tokens/s, of the time to the first token and of the CPU seconds of all of
a server's processes per 1,000 tokens (which other programs on the machine disturb least), and the
medians of the ratios within a round.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
import psutil

from limo_ray.core import config as configs
from limo_ray.core.prompts import SYSTEM, question_messages
from limo_ray.core.records import Problem
from limo_ray.engines.api_config import ApiConfig
from limo_ray.engines.base import EngineConfig, Request, SamplingConfig, create
from limo_ray.engines.environment import set_cpu_environment
from limo_ray.serve.config import ServeConfig
from limo_ray.storage import model_files

PRESET = str(Path(__file__).parent.parent / "conf/serve/laptop.yaml")
WORDS = [
    "apples",
    "pears",
    "plums",
    "coins",
    "books",
    "stones",
    "birds",
    "cards",
    "shells",
    "stamps",
]


@dataclass
class Turn:
    """What one server did in one turn."""

    seconds: float
    tokens: int
    first: list[float]  # seconds to the first token of each request
    cpu: float = 0.0  # seconds of all of the server's processes

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def prompt(number: int) -> str:
    a, b = WORDS[number % 10], WORDS[number // 10 % 10]
    return (
        f"Anna has {number + 3} {a} and {2 * number + 1} {b}. She gives away {number % 3 + 1} {a} "
        f"and buys {number % 5 + 2} {b}. How many things does she have in the end?"
    )


async def turn(
    url: str, model: str, requests: int, tokens: int, stream: bool, begin: int, clients: int
) -> Turn:
    """All requests by so many clients; each prompt is new to the server."""
    numbers = iter(range(begin, begin + requests))
    result = Turn(0.0, 0, [])
    limit = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=limit, timeout=timeout) as session:

        async def ask(number: int) -> None:
            body = {
                "model": model, "max_tokens": tokens, "ignore_eos": True, "temperature": 0.6,
                "stream": stream,
                "messages": [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": prompt(number)},
                ],
            } | ({"stream_options": {"include_usage": True}} if stream else {})  # fmt: skip
            sent = time.perf_counter()
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"{url}: {answer.status} {await answer.text()}")
                if not stream:
                    result.tokens += (await answer.json())["usage"]["completion_tokens"]
                    return
                heard = False
                async for line in answer.content:
                    if not line.startswith(b"data: {"):
                        continue
                    event = json.loads(line[6:])
                    if event.get("usage"):
                        result.tokens += event["usage"]["completion_tokens"]
                    elif not heard and event["choices"][0]["delta"].get("content"):
                        heard = True
                        result.first.append(time.perf_counter() - sent)

        async def client() -> None:
            for number in numbers:
                await ask(number)

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        result.seconds = time.perf_counter() - begun
    assert result.tokens == requests * tokens, f"{result.tokens} of {requests * tokens} tokens"
    return result


async def engine_turn(
    url: str, model: str, requests: int, tokens: int, begin: int, clients: int
) -> Turn:
    """The same requests by an engine of kind api."""
    config = EngineConfig(
        kind="api", url=f"{url}/v1", model=model, device="cpu", max_num_seqs=clients,
        api=ApiConfig(body={"ignore_eos": True}),
    )  # fmt: skip
    engine, sampling = create(config), SamplingConfig(max_tokens=tokens)
    await engine.start()

    async def ask(number: int) -> int:
        question = prompt(number)
        problem = Problem(id=str(number), question=question, answer="", source="")
        rendered = engine.render(question_messages(question, SYSTEM))
        request = Request(problem=problem, index=0, prompt=rendered, sampling=sampling)
        return (await engine.generate(request)).completion_tokens

    begun = time.perf_counter()
    found = await asyncio.gather(*(ask(number) for number in range(begin, begin + requests)))
    assert sum(found) == requests * tokens, f"{sum(found)} of {requests * tokens} tokens"
    return Turn(time.perf_counter() - begun, sum(found), [])


def cpu_seconds(server: subprocess.Popen) -> float:
    """Of a server and all processes under it so far."""
    total = 0.0
    one = psutil.Process(server.pid)
    for process in [one, *one.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"{url} did not start: {log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=model_files.PACKAGED)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--vllm", default="--enforce-eager", help="more flags of vLLM's server")
    options = parser.parse_args()
    config = configs.load(ServeConfig, [options.preset, f"model={options.model}"])
    engine = config.engine
    folder = Path(tempfile.mkdtemp(prefix="bench-serve-"))
    ports = {"ours": free_port(), "vllm serve": free_port()}
    root = Path(__file__).parent.parent
    commands = {
        "ours": [sys.executable, str(root / "jobs/serve.py"), options.preset,
                 f"model={options.model}", f"port={ports['ours']}", "served_name=model"],
        "vllm serve": [
            # what `vllm serve` runs: the command itself asks for a package that CPU builds lack
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", model_files.resolve(options.model),
            "--port", str(ports["vllm serve"]), "--host", "127.0.0.1",
            "--served-model-name", "model", "--dtype", engine.dtype, *options.vllm.split(),
            "--max-num-seqs", str(engine.max_num_seqs), "--disable-log-stats",
            "--max-model-len", str(engine.max_model_len), "--seed", str(engine.seed),
            "--disable-uvicorn-access-log",
        ],
    }  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    if engine.device == "cpu":
        saved = dict(os.environ)
        set_cpu_environment(engine)  # vllm serve gets both cores too
        theirs = dict(os.environ)
        os.environ.clear()
        os.environ.update(saved)
    else:
        theirs = environment
    servers = {}
    try:
        for name, command in commands.items():
            log = folder / f"{name.split()[0]}.log"
            servers[name] = subprocess.Popen(
                command, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
                env=environment if name == "ours" else theirs,
            )  # fmt: skip
            path = "ready" if name == "ours" else "health"
            wait_for(f"http://127.0.0.1:{ports[name]}/{path}", servers[name], log)
        measure(options, servers, ports)
    finally:
        for server in servers.values():
            server.send_signal(signal.SIGINT)
        for server in servers.values():
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def measure(
    options: argparse.Namespace, servers: dict[str, subprocess.Popen], ports: dict[str, int]
) -> None:
    begin = 0

    def one(name: str, requests: int, tokens: int, kind: str) -> Turn:
        nonlocal begin
        begin += requests
        url, before = f"http://127.0.0.1:{ports[name]}", cpu_seconds(servers[name])
        if kind == "api" and name == "ours":
            result = asyncio.run(
                engine_turn(url, "model", requests, tokens, begin, options.clients)
            )
        else:
            streamed = kind == "streamed"
            result = asyncio.run(
                turn(url, "model", requests, tokens, streamed, begin, options.clients)
            )
        result.cpu = cpu_seconds(servers[name]) - before
        return result

    for name in servers:  # warm
        one(name, options.clients, 8, "streamed")
    say(
        f"{options.clients} clients, {options.requests} chats of {options.tokens} tokens a turn, "
        f"{options.rounds} rounds"
    )
    for kind in ("streamed", "whole", "api"):
        turns: dict[str, list[Turn]] = {name: [] for name in servers}
        for number in range(options.rounds):
            for name in list(servers) if number % 2 == 0 else list(servers)[::-1]:
                turns[name].append(one(name, options.requests, options.tokens, kind))
        for name, found in turns.items():
            speeds = [each.speed for each in found]
            cpu = statistics.median(1000 * each.cpu / each.tokens for each in found)
            line = (
                f"{kind:<9}{name:<11}{statistics.median(speeds):7.0f} tokens/s "
                f"({min(speeds):.0f} to {max(speeds):.0f}), {cpu:.2f} CPU s per 1,000 tokens"
            )
            if kind == "streamed":
                first = sorted(second for each in found for second in each.first)
                line += (
                    f", first token after {statistics.median(first):.2f} s "
                    f"(95 %: {first[int(0.95 * len(first))]:.2f} s)"
                )
            say(line)
        pairs = list(zip(turns["ours"], turns["vllm serve"], strict=True))
        for what, ratios in (
            ("tokens/s", [a.speed / b.speed for a, b in pairs]),
            ("tokens per CPU second", [b.cpu / a.cpu for a, b in pairs]),
        ):
            say(
                f"{kind:<9}ours over vllm serve, {what}: {statistics.median(ratios):.3f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
