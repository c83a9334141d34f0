"""The pool's steps beside datatrove's on the same rows, in one run.

    python bench/pool/run.py                             1,000,000 rows, both
    python bench/pool/run.py --rows 10000000 --no-peer   ours alone
    python bench/pool/run.py --data FOLDER               a pool that data.py made

Filters, decontamination, exact and near-duplicates, from JSONL to Parquet with a ledger's facts for
each row. Prints rows/s per step, the peak memory of all processes together, recall and precision
by the truth that lies beside the pool (see data.py for what is planted), and the ratio.
datatrove needs an environment of its own: peer.py says which.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import psutil
import pyarrow as pa
import ray
from data import make
from score import peer, score

from limo_ray.cli.ray_cluster import start_ray
from limo_ray.core import config
from limo_ray.curate.config import CurateConfig
from limo_ray.curate.pool import build_pool
from limo_ray.storage.store import Store, scan

ROOT = Path(__file__).resolve().parents[2]
REASONS = {"duplicate": "exact", "near_duplicate": "near", "contaminated": "contamination"}
PEER = ROOT / "build/datatrove/bin/python"


def settings(data: Path, store: Path) -> list[str]:
    """The laptop preset with the pool and the benchmarks of a folder of data.py."""
    sources = [
        {
            "name": name, "path": f"{data}/pool/{name}-*.jsonl", "question": "question",
            "answer": "answer", "metadata": ["uid"],
        }
        for name in ("a", "b")
    ]  # fmt: skip
    against = [
        {"name": file.stem, "path": str(file), "question": "problem", "answer": "problem"}
        for file in sorted((data / "benchmarks").glob("*.jsonl"))
    ]
    return [
        str(ROOT / "conf/curate/laptop.yaml"), f"store={store}", "engines.smollm2.kind=scripted",
        "engines.smollm2.max_model_len=8192", "sources=" + json.dumps(sources),
        "decontaminate.benchmarks=[]", "decontaminate.files=" + json.dumps(against),
    ]  # fmt: skip


class Watch:
    """The most memory that this process and its children held at once, and their CPU time.

    Memory is the proportional set size: pages that processes share count once. CPU time, other
    than time on the clock, does not depend on what else the machine does.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._spent: dict[psutil.Process, float] = {}
        self._before = sum(psutil.Process().cpu_times()[:2])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def cpu_s(self) -> float:
        return sum(self._spent.values()) - self._before

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(1):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                    self._spent[process] = sum(process.cpu_times()[:2])
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.bytes = max(self.bytes, total)


def ours(data: Path, store: Path, rows: int) -> dict[str, Any]:
    """Runs the pool's steps on this machine's cores."""
    chosen = config.load(CurateConfig, settings(data, store))
    run = Store(chosen.store).within("runs/bench")
    with Watch() as watch:
        started = time.time()
        pool = build_pool(chosen, run)
        seconds = time.time() - started
    kept: list[str] = []
    reasons: dict[str, str] = {}
    counts: dict[str, int] = {}
    total = 0
    for batch in scan(pool, ["metadata", "reason"]):
        for text, reason in zip(
            *(batch[n].to_pylist() for n in ("metadata", "reason")), strict=True
        ):
            uid = json.loads(text).get("uid", "")
            total += 1
            if reason is None:
                kept.append(uid)
            else:
                reasons[uid] = REASONS.get(reason, reason)
                counts[reason] = counts.get(reason, 0) + 1
    if total != rows:
        raise SystemExit(f"{rows} rows went in, {total} came out")
    steps = {
        name: rows / spent for name, spent in run.read_json("pool.json")["seconds"].items() if spent
    }
    return {
        "seconds": seconds, "rows_per_s": rows / seconds, "steps": steps, "peak": watch.bytes,
        "cpu_s": watch.cpu_s, "reasons": counts,
        "score": score(data, pa.array(kept, pa.string()), reasons),
    }  # fmt: skip


def theirs(data: Path, out: Path, workers: int) -> dict[str, Any]:
    """Runs peer.py with datatrove's own Python."""
    if not PEER.exists():
        raise SystemExit(f"{PEER} not found: see bench/pool/peer.py, or give --no-peer")
    command = [str(PEER), str(ROOT / "bench/pool/peer.py"), str(data), str(out)]
    subprocess.run([*command, "--workers", str(workers)], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((out / "report.json").read_text())
    steps = {step["step"]: step["rows_per_s"] for step in found["steps"]}
    return {
        "seconds": found["seconds"], "rows_per_s": found["rows_per_s"], "steps": steps,
        "peak": found["peak_bytes"], "score": score(data, *peer(out)),
    }  # fmt: skip


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}: {found['rows_per_s']:,.0f} rows/s, {found['seconds']:.0f} s, "
          f"peak memory {found['peak'] / 2**30:.2f} GiB")  # fmt: skip
    if "cpu_s" in found:
        print(f"  {'CPU seconds, all processes':26} {found['cpu_s']:10,.0f}")
    for step, speed in found["steps"].items():
        print(f"  {step:24} {speed:12,.0f} rows/s")
    scored = found["score"]
    for key in ("near_recall", "near_precision", "contamination_recall", "false_contaminations"):
        value = scored.get(key)
        print(f"  {key:24} {'-' if value is None else f'{value:.4%}':>12}")
    for kind, row in scored["kinds"].items():
        print(f"    {kind:32} {row['rows']:>10,} rows, {row['removed']:>9,} removed, "
              f"{row['share']:.2%}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, help="a folder of data.py; made when missing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="limo-pool-") as folder:
        data = options.data or Path(folder) / "data"
        if not (data / "made.json").exists():
            make(data, options.rows, options.seed)
        rows = json.loads((data / "made.json").read_text())["rows"]
        print(f"{rows:,} rows on {workers} cores")
        start_ray()
        found = {"limo_ray": ours(data, Path(folder) / "store", rows)}
        ray.shutdown()
        show("limo_ray", found["limo_ray"])
        if not options.no_peer:
            found["datatrove"] = theirs(data, Path(folder) / "peer", workers)
            show("datatrove", found["datatrove"])
            ratio = found["limo_ray"]["rows_per_s"] / found["datatrove"]["rows_per_s"]
            print(f"\nrows/s, limo_ray over datatrove: {ratio:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
