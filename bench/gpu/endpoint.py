"""Our endpoint beside vLLM's own server, by bench/serve.py, with both on one GPU at once."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.gpu.engine import dummy
from bench.gpu.report import result

ROOT = Path(__file__).parents[2]
GPU_PRESET = """
name: gpu
model: {model}
engine:
  model: ${{model}}
  device: gpu
  dtype: bfloat16
  max_num_seqs: 256
  max_model_len: 4096
  gpu_memory: 0.4                 # a fixed cache and no profiling: both start at once
  num_cpus: 1
  extra: {{load_format: dummy, kv_cache_memory_bytes: {cache}}}
gate: {{max_concurrent: 256, max_queue: 512}}
routing: balanced
"""
CACHE = 8_000_000_000


def endpoint(device: str, _: str) -> None:
    """tokens/s and time to the first token, streamed and whole."""
    command = [sys.executable, str(ROOT / "bench/serve.py")]
    if device == "gpu":
        model = dummy("7b")
        preset = Path(tempfile.mkdtemp()) / "gpu.yaml"
        preset.write_text(GPU_PRESET.format(model=model, cache=CACHE))
        command += ["--preset", str(preset), "--model", str(model), "--clients", "256",
                    "--requests", "512", "--tokens", "128", "--rounds", "3", "--vllm",
                    "--load-format dummy --gpu-memory-utilization 0.4 "
                    f"--kv-cache-memory-bytes {CACHE}"]  # fmt: skip
    else:
        command += ["--clients", "8", "--requests", "8", "--tokens", "8", "--rounds", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if found := RATIO.match(line):
            kind, what, ratio, low, high = found.groups()
            result("endpoint", f"{kind}: ours over vLLM's server, {what}", float(ratio), "",
                   low=float(low), high=float(high))  # fmt: skip
        elif found := SPEED.match(line):
            kind, who, speed, rest = found.groups()
            first = FIRST.search(rest)
            more = json.loads(f'{{"first_token_s": {first[1]}}}') if first else {}
            result("endpoint", f"{kind}: {who.strip()}", float(speed.replace(",", "")), "tokens/s",
                   **more)  # fmt: skip
    if process.wait():
        raise SystemExit(process.returncode)


RATIO = re.compile(r"(\w+) +ours over vllm serve, ([^:]+): ([\d.]+) \(([\d.]+) to ([\d.]+)\)")
SPEED = re.compile(r"(streamed|whole) +(ours|vllm serve) +([\d.,]+) tokens/s (.*)")
FIRST = re.compile(r"first token after ([\d.]+) s")
