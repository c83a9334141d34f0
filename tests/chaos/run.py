"""A curation on a cluster that a monkey tears at, against one that is left alone.

    python -m tests.chaos.run [--problems 2000] [--kills 24] [--nodes 4] [--seed 0] [--only a,b]

The seed fixes what is killed, in which order and after which pauses, and the draws; what is in the
middle of what at that moment is up to the machine. Prints what it did and what it came to; the
exit code is 1 if anything was lost that must not be.
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
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests.chaos.evidence import Findings, Loss, examine
from tests.chaos.faults import CUT_SHORT
from tests.chaos.nodes import Nodes
from tests.processes import quiet, use_fresh_token

ROOT = Path(__file__).parent.parent.parent
FLUSH_S = 1.0
# How often each kind comes in twenty.
KINDS = {
    "sampler": 4, "preempt": 2, "engine": 2, "worker": 2, "coordinator": 1, "node": 3, "drain": 1,
    "driver": 2, "head": 1, "corrupt": 1, "fill": 1,
}  # fmt: skip


@dataclass
class Monkey:
    """Does one thing at a time, and remembers which processes it cost."""

    nodes: Nodes
    rng: random.Random
    store: Path
    losses: list[Loss] = field(default_factory=list)
    done: Counter = field(default_factory=Counter)

    def do(self, kind: str, driver: subprocess.Popen) -> None:
        pick = self.rng.randrange(1 << 30)
        began = time.time()
        workers = self.nodes.workers()
        detail, pids = getattr(self, kind)(pick, workers, driver)
        if detail:
            self.done[kind] += 1
            self.losses.append(Loss(kind=kind, began=began, ended=time.time(), pids=pids))
        print(f"  {kind:8} {detail or 'nothing there to do it to'}", flush=True)

    def sampler(self, pick, workers, driver, sent=signal.SIGKILL):
        found = [process for process in workers if "Sampler" in _title(process)]
        return _send(found, pick, sent)

    def preempt(self, pick, workers, driver):
        return self.sampler(pick, workers, driver, signal.SIGTERM)

    def engine(self, pick, workers, driver):
        """The scripted engine dies in its sampler, and one of the verifier's processes with it."""
        detail, pids = self.sampler(pick, workers, driver, CUT_SHORT)
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(pid).children(recursive=True):
                    child.kill()
        return detail, []  # the process lives: it loses nothing

    def worker(self, pick, workers, driver):
        names = ("Sampler", "Coordinator", "Agent")
        return _send([p for p in workers if not any(n in _title(p) for n in names)], pick)

    def coordinator(self, pick, workers, driver):
        return _send([process for process in workers if "Coordinator" in _title(process)], pick)

    def node(self, pick, workers, driver):
        pids = self.nodes.lose_node(pick)
        self.nodes.add()
        return f"{len(pids)} processes", pids

    def drain(self, pick, workers, driver):
        """A notice, the node's end some seconds after it, and another node in its place."""
        name = self.nodes.drain_node(pick, seconds=14)
        self.nodes.add()
        time.sleep(14)
        return f"node {name[:8]}", self.nodes.lose_node(pick)

    def driver(self, pick, workers, driver):
        driver.kill()
        driver.wait()
        return f"pid {driver.pid}", [process.pid for process in workers]

    def head(self, pick, workers, driver):
        driver.kill()
        pids = self.nodes.stop()
        driver.wait()
        self.nodes.start()
        return f"{len(pids)} processes", pids

    def corrupt(self, pick, workers, driver):
        """Cuts a part of the attempt log short, or flips one of its bits: its attempts are lost."""
        parts = sorted(self.store.glob("attempts/*/part-*.parquet"))
        if not parts:
            return "", []
        part = parts[pick % len(parts)]
        with contextlib.suppress(FileNotFoundError):  # merged this moment
            table = pq.read_table(part, columns=["problem_id", "index"])
            content = bytearray(part.read_bytes())
            if pick % 2:
                content = content[: len(content) // 2]
            else:  # in the first column's data
                content[len(content) // 4] ^= 1 << (pick % 8)
            rows = zip(table["problem_id"].to_pylist(), table["index"].to_pylist(), strict=True)
            draws = [(part.parent.name, *row) for row in rows]
            part.write_bytes(content)
            self.losses.append(Loss(kind="destroyed", began=time.time(), draws=draws))
            return f"{part.name}, {len(draws)} attempts", []
        return "", []

    def fill(self, pick, workers, driver):
        """No room in the store for some seconds."""
        if not os.path.ismount(self.store):
            return "", []
        filler = self.store / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(4)
        size = filler.stat().st_size
        filler.unlink()
        return f"{size / 2**20:.0f} MB for 4 s", []


def _title(process: psutil.Process) -> str:
    try:
        return process.cmdline()[0]
    except (psutil.Error, IndexError):
        return ""


def _send(found: list[psutil.Process], pick: int, sent: int = signal.SIGKILL):
    if not found:
        return "", []
    process = found[pick % len(found)]
    title = _title(process)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(sent)
    return f"pid {process.pid}, {title}", [process.pid]


def schedule(seed: int, kills: int, only: str = "", once: bool = False) -> list[tuple[str, float]]:
    """(kind, pause before it): every kind as often as its weight says, in a random order."""
    rng = random.Random(seed)
    bag: list[str] = []
    while len(bag) < kills:
        kinds = only.split(",") if only else list(KINDS)
        turn = [kind for kind in kinds for _ in range(1 if once else KINDS[kind])]
        rng.shuffle(turn)
        bag += turn
    return [(kind, rng.uniform(0.5, 3.0)) for kind in bag[:kills]]


def arguments(
    folder: Path, store: Path, problems: int, seed: int, pace: float, replicas: int = 1
) -> list[str]:
    """Of a curation of made-up sums by so many scripted engines."""
    pool = folder / f"sums-{problems}.jsonl"
    if not pool.exists():
        rows = [{"question": f"What is {n} + {n}?", "answer": 2 * n} for n in range(problems)]
        pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = json.dumps([{"path": str(pool), "question": "question", "answer": "answer"}])
    engine = "engines.smollm2"
    return [
        str(ROOT / "conf/curate/laptop.yaml"), f"sources={source}", f"store={store}",
        f"{engine}.kind=scripted", f"{engine}.num_cpus=0.5", f"{engine}.max_num_seqs=16",
        f"{engine}.seed={seed}", f"{engine}.min_replicas={replicas}",
        f"{engine}.max_replicas={replicas}", f"{engine}.script={{seconds_per_token: {pace}}}",
        *([f"{engine}.resources={{sampler: 1}}"] if replicas > 1 else []),
        f"sampler.flush_s={FLUSH_S}", "sampler.speculative_share=0", "sampler.partial_tokens=8",
        "sampler.drain_margin_s=9", "difficulty.stop_after_kept=0", "decontaminate.files=[]",
        "difficulty.weak.sampling.temperature=1", "selection.k=50",
    ]  # fmt: skip


class Job:
    """The same command, submitted as often as it takes."""

    def __init__(self, folder: Path, nodes: Nodes, argv: list[str], seed: int, spoil: float):
        self.folder, self.nodes, self.argv = folder, nodes, argv
        self.seed, self.spoil = seed, spoil
        self.submitted = 0
        self.failures: list[str] = []
        (folder / "draws").mkdir()
        self.process = self.submit()

    def submit(self) -> subprocess.Popen:
        self.submitted += 1
        chaos = {
            "CHAOS_FOLDER": str(self.folder / "draws"), "CHAOS_SEED": str(self.seed),
            "CHAOS_STORE": str(self.spoil), "RAY_ADDRESS": self.nodes.address,
        }  # fmt: skip
        self.output = self.folder / f"driver-{self.submitted}.log"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.driver", "curate", *self.argv], cwd=ROOT,
                stdout=output, stderr=output, env=os.environ | chaos,
            )  # fmt: skip
        return self.process

    def begun(self) -> int:
        """Draws begun until now, by all processes."""
        logs = (self.folder / "draws").glob("*.log")
        return sum(log.read_bytes().count(b"b ") for log in logs)

    def alive(self) -> bool:
        """False when it is done; one that failed is submitted again."""
        code = self.process.poll()
        if code is None:
            return True
        if code == 0:
            return False
        lines = self.output.read_text().strip().splitlines() or [f"exit code {code}"]
        if code > 0:  # a killed driver did not fail
            self.failures.append(lines[-1])
            print(f"  (the job ended with {code}: {lines[-1][:200]})", flush=True)
        if len(self.failures) > 20:
            raise RuntimeError(f"the job failed 20 times, at last with {lines[-1]}")
        self.submit()
        return True


def disturbed(
    folder: Path, store: Path, problems: int, kills: int, count: int, seed: int, *,
    pace: float = 0.02, only: str = "", once: bool = False, spoil: float = 0.0,
) -> tuple[Monkey, Job]:  # fmt: skip
    """Runs the job to its end while the monkey works through its schedule."""
    nodes = Nodes(folder / "ray", count)
    nodes.start()
    try:
        argv = arguments(folder, store, problems, seed, pace, count - 1)
        job = Job(folder, nodes, argv, seed, spoil)
        monkey = Monkey(nodes, random.Random(seed), store)
        for kind, pause in schedule(seed, kills, only, once):
            _wait_for_draws(job, 40)
            time.sleep(pause)
            if not job.alive():
                break
            monkey.do(kind, job.process)
        deadline = time.time() + 300
        while job.alive():
            if time.time() > deadline:
                raise TimeoutError(f"not done 300 s after the last kill: see {job.output}")
            time.sleep(0.2)
        return monkey, job
    finally:
        with contextlib.suppress(NameError, UnboundLocalError):
            job.process.kill()
        nodes.stop()


def _wait_for_draws(job: Job, count: int, timeout_s: float = 240) -> None:
    """Until so many more draws have begun: what is killed is then at work."""
    begun, deadline = job.begun(), time.time() + timeout_s
    while job.alive() and job.begun() < begun + count:
        if time.time() > deadline:
            raise TimeoutError(f"no draws for {timeout_s:.0f} s: see {job.output}")
        time.sleep(0.2)


def undisturbed(folder: Path, problems: int, seed: int) -> Path:
    """The same draws at once, on a Ray of its own; returns its store."""
    store = folder / "undisturbed"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    argv = arguments(folder, store, problems, seed, 0.0)
    done = subprocess.run(
        [sys.executable, "jobs/curate.py", *argv], cwd=ROOT, env=environment, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout)
    assert quiet(done.stdout)
    return store


def measure(folder: Path, arguments: Any) -> Findings:
    store = folder / "store"
    store.mkdir()
    if arguments.disk_mb:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={arguments.disk_mb}m", "tmpfs", str(store)],
            check=True,
        )
    try:
        monkey, job = disturbed(
            folder, store, arguments.problems, arguments.kills, arguments.nodes, arguments.seed,
            pace=arguments.pace, only=arguments.only, once=arguments.once,
            spoil=arguments.spoil,
        )  # fmt: skip
        plain = undisturbed(folder, arguments.problems, arguments.seed)
        found = examine(store, plain, folder / "draws", monkey.losses, FLUSH_S)
    finally:
        if arguments.disk_mb:
            subprocess.run(["umount", str(store)], check=True)
    found.kills, found.submitted, found.failures = monkey.done, job.submitted, job.failures
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--problems", type=int, default=2000)
    made.add_argument("--kills", type=int, default=24)
    made.add_argument("--nodes", type=int, default=4)
    made.add_argument("--seed", type=int, default=int(os.environ.get("CHAOS_SEED", "0")))
    made.add_argument("--pace", type=float, default=0.02, help="seconds per token")
    made.add_argument("--only", default="", help="kinds of faults, with commas")
    made.add_argument("--once", action="store_true", help="each kind as often as the others")
    made.add_argument("--spoil", type=float, default=0.0, help="share of failing log writes")
    made.add_argument("--disk-mb", type=int, default=0, help="store on a tmpfs of this size (root)")
    made.add_argument("--folder", default="", help="a short path; left there afterwards")
    return made


def main() -> int:
    arguments = parser().parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"CHAOS_SEED={arguments.seed} {' '.join(sys.argv[1:])} in {folder}", flush=True)
    found = measure(folder, arguments)
    print(found.summary())
    return 0 if found.sound else 1


if __name__ == "__main__":
    use_fresh_token()
    sys.exit(main())
