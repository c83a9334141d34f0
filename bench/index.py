"""What a long attempt log costs at the start of a job: seconds and peak memory of indexing it.

    python bench/index.py [--attempts 10000000] [--parts 2000] [--characters 600] [--folder DIR]

Writes a log as samplers leave one (parts of all sizes, each with the attempts of its time, texts of
some hundred random characters), then takes steps, each in a process of its own: `index` reads the
log's index, `start` also hands it to a Ray cluster, as a job does at its start, and `compact`
merges its small parts. With --folder the log is kept there and used again.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limo_ray.attempts.index import AttemptIndex
from limo_ray.attempts.log import AttemptLog
from limo_ray.core.records import ATTEMPT
from limo_ray.storage.store import Store

FINGERPRINT = "f" * 16
ATTEMPTS = 4  # at a problem, on the mean
VERDICTS = ["wrong", "correct", "truncated", "unparsed"]


def write_log(store: Store, attempts: int, parts: int, characters: int) -> None:
    """A log of `attempts` in about `parts` parts; sizes are log-normal, as merging leaves them."""
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0, 1.5, parts)
    sizes = np.maximum(1, np.round(shares / shares.sum() * attempts)).astype(int)
    sizes[np.argmax(sizes)] += attempts - sizes.sum()
    numbers = rng.integers(0, 2**63, (attempts // ATTEMPTS, 3), dtype=np.uint64)
    ids = np.array([f"{high:016x}{low:016x}" for high, low, _ in numbers.tolist()])
    judges = np.array([f"{judge:016x}" for _, _, judge in numbers.tolist()])
    letters = np.frombuffer(rng.bytes(1 << 22), np.uint8) % 26 + 97
    text = letters.tobytes().decode()
    next_index = np.zeros(len(ids), np.int32)
    begin = 0
    for number, size in enumerate(sizes.tolist()):
        # A sampler works at some hundred problems at a time.
        problems = begin // ATTEMPTS + rng.integers(0, max(1, size // ATTEMPTS + 1), size)
        chosen = problems % len(ids)
        begin += size
        starts = rng.integers(0, len(text) - characters, size).tolist()
        table = pa.table(
            {
                "problem_id": ids[chosen], "index": next_index[chosen],
                "completion": [text[start : start + characters] for start in starts],
                "finish_reason": ["stop"] * size, "prompt_tokens": [60] * size,
                "completion_tokens": [characters // 4] * size,
                "verdict": np.array(VERDICTS)[rng.integers(0, len(VERDICTS), size)],
                "extracted": ["17"] * size, "judge": judges[chosen],
            }
        ).cast(ATTEMPT)  # fmt: skip
        next_index[chosen] += 1
        name = f"attempts/{FINGERPRINT}/part-{number:020d}-{number % 64:08x}-000000.parquet"
        store.write_table(name, table)


def index(folder: str) -> int:
    return len(AttemptLog(Store(folder), FINGERPRINT).read_index())


def start(folder: str) -> int:
    """The driver's share of a job's start: the index is read and handed to the cluster."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="error")

    def rows(index: AttemptIndex) -> int:
        return len(index)

    shared = ray.put(AttemptLog(Store(folder), FINGERPRINT).read_index())
    return ray.get(ray.remote(rows).remote(shared))


def compact(folder: str) -> int:
    return AttemptLog(Store(folder), FINGERPRINT).compact()


STEPS = {"index": index, "start": start, "compact": compact}


def measured(step: str, folder: str) -> dict[str, float]:
    """A step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", folder]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=10_000_000)
    parser.add_argument("--parts", type=int, default=2_000)
    parser.add_argument("--characters", type=int, default=600)
    parser.add_argument("--folder")
    parser.add_argument("--steps", nargs="*", default=["index", "start"])
    parser.add_argument("--step", choices=STEPS)
    given = parser.parse_args()
    if given.step:
        begun = time.perf_counter()
        count = STEPS[given.step](given.folder)
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sys.stdout.write(json.dumps({"count": count, "seconds": seconds, "gib": peak}) + "\n")
        return
    with tempfile.TemporaryDirectory(prefix="bench-index-") as temporary:
        folder = given.folder or temporary
        store = Store(folder)
        if not store.files(f"attempts/{FINGERPRINT}"):
            write_log(store, given.attempts, given.parts, given.characters)
        infos = store.infos(f"attempts/{FINGERPRINT}")
        size = sum(info.size for info in infos) / 2**30
        rows = sum(pq.read_metadata(info.path).num_rows for info in infos)
        sys.stdout.write(f"log: {rows:,} attempts in {len(infos):,} parts, {size:.2f} GiB\n")
        for step in given.steps:
            found = measured(step, folder)
            cost = f"{found['seconds']:8.1f} s, peak {found['gib']:.2f} GiB"
            sys.stdout.write(f"{step:8} {found['count']:>12,} {cost}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
