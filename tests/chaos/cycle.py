"""Curate, train and evaluate under faults at random moments, against the same left alone.

    python -m tests.chaos.cycle [--faults 24] [--seed 0] [--problems 1200] [--folder /tmp/x]

Each job has a Ray of its own on this machine, the scripted engine and a tiny model. The seed fixes
which faults come, in which order and after how much progress. Prints what came of it; the exit
code is 1 if examples, ledger, losses or scores are others, or a logged attempt was sampled again.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests import processes
from tests.chaos.evidence import Draw, drawn_twice, events
from tests.train import tiny

ROOT = Path(__file__).parent.parent.parent
# The phases in order: the job, the faults, how much progress comes between two of them.
PHASES: dict[str, tuple[str, list[str], tuple[int, int]]] = {
    "pool": ("curate", ["worker", "driver", "machine"], (2, 30)),
    "sampling": ("curate", ["Sampler", "Coordinator", "driver", "machine"], (40, 400)),
    "training": ("train", ["TrainWorker", "driver", "truncate", "fill"], (2, 8)),
    "evaluation": ("evaluate", ["Sampler", "Coordinator", "driver", "machine"], (20, 100)),
}
JOBS = ("curate", "train", "evaluate")
FILES = 24  # of the pool


def commands(folder: Path, store: Path, problems: int, seed: int, pace: float) -> dict[str, list]:
    """The arguments of each job; with another pace or store the results are the same."""
    if not (folder / "model").exists():
        tiny.model_folder(folder / "model")
        _write_pool(folder / "pool", problems)
        exam = [{"question": f"What is {n} and {n} and 7?", "answer": 2 * n + 7} for n in range(99)]
        (folder / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam))
        (folder / "empty.yaml").write_text("")
    columns = {"question": "question", "answer": "answer"}
    script = {"seconds_per_token": pace}
    engine = "engines.smollm2"
    sampling = {"temperature": 0.6, "max_tokens": 200}
    exam = {"name": "exam", "protocol": "often",
            "source": {"path": str(folder / "exam.jsonl"), **columns}}  # fmt: skip
    scripted = {"kind": "scripted", "device": "cpu", "num_cpus": 0.5, "max_num_seqs": 16,
                "seed": seed, "script": script}  # fmt: skip
    return {
        "curate": [
            str(ROOT / "conf/curate/laptop.yaml"), f"store={store}",
            f"sources={json.dumps([{'path': str(folder / 'pool'), **columns}])}",
            f"{engine}.kind=scripted", f"{engine}.num_cpus=0.5", f"{engine}.max_num_seqs=32",
            f"{engine}.seed={seed}", f"{engine}.script={json.dumps(script)}",
            "sampler.flush_s=0.5", "sampler.speculative_share=0", "difficulty.stop_after_kept=0",
            "difficulty.weak.sampling.temperature=1", "decontaminate.files=[]", "selection.k=40",
        ],
        "train": [
            str(folder / "empty.yaml"),
            *tiny.overrides(
                folder, store=store, data=store / "runs/laptop/examples.parquet",
                **{"rows.max_tokens": 1024, "batch.pack_tokens": 1024, "optimizer.epochs": 12,
                   "rows.held_out": 4, "checkpoint.every_steps": 2},
            ),
        ],
        "evaluate": [
            str(folder / "empty.yaml"), f"store={store}", "model=scripted", "name=exam",
            "sampler.flush_s=0.5", f"benchmarks={json.dumps([exam])}",
            f"protocols={json.dumps({'often': {'attempts': 4, 'sampling': sampling}})}",
            f"engine={json.dumps(scripted)}",
        ],
    }  # fmt: skip


def _write_pool(folder: Path, problems: int) -> None:
    """Each problem some ten times, over many files: reading takes a while, sampling does not."""
    folder.mkdir()
    rng = random.Random(0)
    for number in range(FILES):
        rows = [{"question": f"What is {n} + {n}?", "answer": 2 * n}
                for n in rng.choices(range(problems), k=problems * 10 // FILES)]  # fmt: skip
        if number == 0:
            rows += [{"question": f"What is {n} + {n}?", "answer": 2 * n} for n in range(problems)]
        (folder / f"{number:02d}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@dataclass
class Job:
    """One job's command, submitted again whenever it dies."""

    name: str
    argv: list[str]
    folder: Path
    store: Path
    submitted: int = 0
    failures: list[str] = field(default_factory=list)

    def submit(self) -> None:
        self.submitted += 1
        self.output = self.folder / f"{self.name}-{self.submitted}.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        env["CHAOS_FOLDER"] = str(self.folder / "draws")
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.driver", self.name, *self.argv],
                cwd=ROOT, stdout=output, stderr=output, env=env,
            )  # fmt: skip

    def alive(self) -> bool:
        """False when it is done."""
        code = self.process.poll()
        if code == 0:
            return False
        if code is not None:
            if code > 0:  # a killed driver did not fail
                last = (self.output.read_text().strip().splitlines() or ["no output"])[-1]
                self.failures.append(last)
                print(f"  ({self.name} ended with {code}: {last[:200]})", flush=True)
            if len(self.failures) > 12:
                raise RuntimeError(f"{self.name} failed too often: see {self.output}")
            self.submit()
        return True

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def progress(self, phase: str) -> int | None:
        """How far a phase is; None when it is over."""
        run = self.store / "runs/laptop"
        if phase == "pool":
            if (run / "pool.json").exists():
                return None
            return sum(len(files) for _, _, files in os.walk(run))
        if phase == "training":
            steps = (self.store / "training/tiny/checkpoints").glob("*/step_*/limo_ray.json")
            return max((int(path.parent.name[5:]) for path in steps), default=0)
        return sum(log.read_bytes().count(b"b ") for log in (self.folder / "draws").glob("*.log"))

    # The faults. Each returns what it did; "" for nothing.

    def kill(self, pick: int, title: str = "") -> str:
        """One of Ray's workers, of the class with this title."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error, IndexError):
                name = process.cmdline()[0]
                if name.startswith("ray::") and title in name and "IDLE" not in name:
                    found.append((process, name))
        if not found:
            return ""
        process, name = found[pick % len(found)]
        process.kill()
        return f"pid {process.pid}, {name}"

    def kill_driver(self, whole_machine: bool) -> str:
        family = self.family()
        self.process.kill()
        if whole_machine:
            processes.kill(family)
        self.process.wait()
        processes.end(family)
        return f"pid {self.process.pid} and {len(family)} more"

    def truncate(self, pick: int) -> str:
        """Cuts a file of the newest checkpoint in half, which the next start then meets."""
        steps = (self.store / "training/tiny/checkpoints").glob("*/step_*/limo_ray.json")
        newest = max(steps, key=lambda path: path.parent.name, default=None)
        if newest is None:
            return ""
        self.kill_driver(whole_machine=True)
        files = sorted(path for path in newest.parent.rglob("*.pt") if path.is_file())
        if not files:
            return ""
        file = files[pick % len(files)]
        os.truncate(file, file.stat().st_size // 2)
        return f"{newest.parent.name}/{file.name}"

    def fill(self, pick: int) -> str:
        """No room in the store for some seconds."""
        if not os.path.ismount(self.store):
            return ""
        filler = self.store / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**14))
        time.sleep(3)
        size = filler.stat().st_size
        filler.unlink()
        return f"{size / 2**20:.0f} MB for 3 s"

    def do(self, kind: str, pick: int) -> str:
        if kind in ("driver", "machine"):
            return self.kill_driver(kind == "machine")
        if kind in ("truncate", "fill"):
            return str(getattr(self, kind)(pick))
        return self.kill(pick, "" if kind == "worker" else kind)


def schedule(seed: int, faults: int) -> list[tuple[str, str, int]]:
    """(phase, fault, progress before it), as many in each phase."""
    rng = random.Random(seed)
    planned = []
    for number, (phase, (_, kinds, span)) in enumerate(PHASES.items()):
        share = faults // 4 + (number < faults % 4)
        bag = [kinds[i % len(kinds)] for i in range(share)]
        rng.shuffle(bag)
        planned += [(phase, kind, rng.randint(*span)) for kind in bag]
    return planned


def disturbed(folder: Path, store: Path, arguments: Any) -> tuple[Counter, list[Job]]:
    """Runs the cycle; returns the faults that were done, and the jobs."""
    rng, done, jobs = random.Random(arguments.seed), Counter(), []
    argv = commands(folder, store, arguments.problems, arguments.seed, arguments.pace)
    planned = schedule(arguments.seed, arguments.faults)
    for name in JOBS:
        job = Job(name, argv[name], folder, store)
        jobs.append(job)
        job.submit()
        try:
            for phase, kind, advance in [p for p in planned if PHASES[p[0]][0] == name]:
                if not _wait(job, phase, advance):
                    print(f"  {phase} was over before {kind}", flush=True)
                    continue
                time.sleep(rng.uniform(0, 0.3))
                detail = ""
                deadline = time.time() + 60
                while not detail and job.alive() and time.time() < deadline:
                    detail = job.do(kind, rng.randrange(1 << 30))
                    time.sleep(0 if detail else 0.05)
                done[f"{phase} {kind}"] += bool(detail)
                print(f"  {phase:10} {kind:11} {detail or 'nothing to do it to'}", flush=True)
            deadline = time.time() + 300
            while job.alive():
                if time.time() > deadline:
                    raise TimeoutError(f"{name} not done 300 s after its last fault: {job.output}")
                time.sleep(0.2)
        finally:
            if job.process.poll() is None:
                job.kill_driver(whole_machine=True)
    return done, jobs


def _wait(job: Job, phase: str, advance: int) -> bool:
    """Until the phase has advanced by so much; False when it is over before."""
    deadline = time.time() + 240
    begun = job.progress(phase)
    while job.alive():
        now = job.progress(phase)
        if begun is None or now is None:
            return False
        if now >= begun + advance:
            return True
        if time.time() > deadline:
            raise TimeoutError(f"no progress in {phase}: see {job.output}")
        time.sleep(0.02)
    return False


def undisturbed(folder: Path, arguments: Any) -> Path:
    """The same jobs, left alone; what is there is not done again."""
    store = folder / "undisturbed"
    if (store / "evaluations/exam/results.json").exists():
        return store
    argv = commands(folder, store, arguments.problems, arguments.seed, 0.0)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for name in JOBS:
        done = subprocess.run(
            [sys.executable, f"jobs/{name}.py", *argv[name]], cwd=ROOT, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout)
        assert processes.quiet(done.stdout)
    return store


def outcome(store: Path) -> dict[str, Any]:
    """What must be the same: examples, ledger, scores; and the losses."""
    run = store / "runs/laptop"
    names = ["problem_id", "source", "file", "line", "stage", "reason"]
    rows = pq.read_table(run / "ledger", columns=names).to_pylist()
    examples = pq.read_table(run / "examples.parquet").to_pylist()
    items = pq.read_table(store / "evaluations/exam/items.parquet").to_pylist()
    lines = (store / "training/tiny/metrics.jsonl").read_text().splitlines()
    return {
        "ledger": sorted(str(row) for row in rows),
        "examples": [(row["problem_id"], str(row["messages"])) for row in examples],
        "scores": sorted(str(row) for row in items),
        "losses": [(row["step"], row["loss"]) for row in map(json.loads, lines)],
    }


def sampled_again(store: Path, draws: Path) -> tuple[int, list[str]]:
    """Logged attempts, and those of them that were begun once more."""
    manifest = json.loads((store / "runs/laptop/manifest.json").read_text())
    logs = {str(s["sampling"]["temperature"]): s["fingerprint"] for s in manifest["sampling"]}
    (logs["0.6"],) = {path.name for path in (store / "attempts").iterdir()} - set(logs.values())
    begun: dict[Draw, list[float]] = defaultdict(list)
    written: dict[Draw, list[float]] = defaultdict(list)
    for _, what, log, problem, index, at in events(draws):
        if what in "bcw":
            times = written if what == "w" else begun
            times[logs.get(log, log), problem, index].append(at)
    return len(written), drawn_twice(begun, written, {})


def measure(folder: Path, arguments: Any) -> bool:
    """Runs both, prints what came of it; True if all is the same."""
    wanted = outcome(undisturbed(folder, arguments))
    if arguments.plain:
        return True
    store = folder / "store"
    store.mkdir()
    (folder / "draws").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(store)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    begun = time.time()
    try:
        done, jobs = disturbed(folder, store, arguments)
        found = outcome(store)
        logged, again = sampled_again(store, folder / "draws")
    finally:
        if mounted:
            subprocess.run(["umount", str(store)], check=True)
    print(f"{time.time() - begun:.0f} s with faults")
    apart = [abs(a[1] - b[1]) for a, b in zip(found["losses"], wanted["losses"], strict=False)]
    same = {name: found[name] == wanted[name] for name in ("examples", "ledger", "scores")}
    same["losses"] = len(found["losses"]) == len(wanted["losses"]) and max(apart) < 1e-3
    print(
        f"faults: {done.total()} ({', '.join(f'{n} {kind}' for kind, n in sorted(done.items()))})"
    )
    for job in jobs:
        print(f"{job.name}: submitted {job.submitted} times, failed {len(job.failures)}")
    print(
        f"the same: {same}; {len(found['examples'])} examples, {len(found['ledger'])} ledger rows, "
        f"{len(found['scores'])} items, {len(found['losses'])} steps (losses at most "
        f"{max(apart):.1e} apart); attempts logged: {logged:,}, sampled again: {len(again)}"
    )
    print("\n".join(again[:5]))
    return all(same.values()) and not again


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=24)
    parser.add_argument("--problems", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CHAOS_SEED", "0")))
    parser.add_argument("--pace", type=float, default=0.02, help="seconds per token")
    parser.add_argument("--folder", default="", help="a short path; left there afterwards")
    parser.add_argument("--plain", action="store_true", help="only the one left alone")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="cycle-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {arguments.seed} in {folder}", flush=True)
    return 0 if measure(folder, arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
