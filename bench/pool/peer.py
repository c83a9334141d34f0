"""datatrove's exact deduplication, MinHash and n-gram decontamination on a pool of data.py.

    python3.11 -m venv build/datatrove
    build/datatrove/bin/pip install 'datatrove[processing]==0.10.1' spacy==3.8.18 \\
        orjson==3.13.0 xxhash==3.8.2 psutil==7.2.2
    build/datatrove/bin/python bench/pool/peer.py FOLDER OUT --workers 2

Runs in an environment of its own and imports nothing of this project. Prints one JSON object (also
OUT/report.json): seconds and rows/s of each step, the total, the largest resident memory of all its
processes together; uids of the rows that stay go to OUT/kept.txt, one a line, those of the others
to OUT/removed.tsv with the reason (exact, near, contamination). The steps are those
of datatrove's own examples with its defaults: hash of the text; MinHash of 5-grams with 14 buckets
of 8; 12-gram decontamination. Two things are not its defaults:

- numbers stay as they are (`norm_numbers=False`), or all problems that differ in their numbers
  would be duplicates; `--numbers fold` is the default.
- the index of the decontamination is made of FOLDER/benchmarks by the indexer's own
  `compute_hashes`: its `run` insists on the package lighteval and tasks of the hub.
"""

import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from datatrove.pipeline.dedup import (
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.logging import logger
from datatrove.utils.text import TextNormConfig


class Indexer(NGramsDecontIndexer):
    """The indexer without its need for lighteval, for `compute_hashes` only."""

    @classmethod
    def __new__(cls, *args: Any, **kwargs: Any) -> "Indexer":
        """Skips the check of the packages that `run` would import."""
        return object.__new__(cls)


def content(doc: Document) -> str:
    """What makes two documents exact duplicates."""
    return doc.text


def index(benchmarks: Path, folder: Path, config: NGramsDecontConfig) -> None:
    """Write the index of all n-grams of the questions, in the indexer's own format."""
    indexer = Indexer(str(folder), config=config)
    for file in sorted(benchmarks.glob("*.jsonl")):
        with file.open(encoding="utf-8", newline="\n") as lines:
            questions = [json.loads(line)["problem"] for line in lines]
        hashes = {value for question in questions for value in indexer.compute_hashes(question)}
        found = np.array(sorted(hashes), dtype=config.hash_config.np_descr)
        found.tofile(folder / f"{file.stem}.index.hashes")


def run(pool: Path, benchmarks: Path, out: Path, workers: int, fold: bool) -> dict[str, Any]:
    """All steps in turn; seconds of each by name, and the rows that were left after it."""
    norm = TextNormConfig(norm_numbers=fold)
    minhash = MinhashConfig(norm_config=norm)
    decont = NGramsDecontConfig(norm_config=norm)
    exact = ExactDedupConfig(content_getter=content)
    work = {name: str(out / name) for name in ("es", "ed", "unique", "sig", "dups", "rm", "kept")}
    (out / "index").mkdir()
    steps: list[dict[str, Any]] = []

    def step(name: str, pipeline: list[Any], tasks: int, left: Callable[[], int] | None) -> None:
        began = time.perf_counter()
        logs = str(out / "logs" / name)
        stats = LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=min(tasks, workers), logging_dir=logs
        ).run()
        steps.append({"step": name, "seconds": time.perf_counter() - began})
        steps[-1]["cpu"] = {
            one.name.partition(": ")[2][2:]: one.time_stats.total for one in stats.stats
        }
        if left:
            steps[-1]["left"] = left()

    def read(folder: str) -> JsonlReader:
        return JsonlReader(folder, text_key="question", id_key="uid", add_file_path=False)

    def again() -> JsonlReader:
        return JsonlReader(work["unique"], add_file_path=False)

    def write(name: str) -> JsonlWriter:
        return JsonlWriter(work[name], compression=None, expand_metadata=True)

    def drop(reason: str) -> JsonlWriter:
        return JsonlWriter(str(out / "removed" / reason), compression=None)

    step(
        "exact_signatures", [read(str(pool)), ExactDedupSignature(work["es"], exact)], workers, None
    )
    step("exact_find", [ExactFindDedups(work["es"], work["ed"], exact)], 1, None)
    step(
        "exact_filter",
        [read(str(pool)), ExactDedupFilter(work["ed"], exact, drop("exact")), write("unique")],
        workers,
        lambda: lines(Path(work["unique"])),
    )
    step(
        "minhash_signatures", [again(), MinhashDedupSignature(work["sig"], minhash)], workers, None
    )
    buckets = MinhashDedupBuckets(work["sig"], work["dups"], config=minhash)
    step("minhash_buckets", [buckets], minhash.num_buckets, None)
    step("minhash_cluster", [MinhashDedupCluster(work["dups"], work["rm"], minhash)], 1, None)
    began = time.perf_counter()
    index(benchmarks, out / "index", decont)
    steps.append({"step": "decontamination_index", "seconds": time.perf_counter() - began})
    pipeline = [
        again(),
        MinhashDedupFilter(work["rm"], drop("near")),
        NGramsDecontFilter(str(out / "index"), decont, drop("contamination")),
        write("kept"),
    ]
    step("minhash_filter_and_decontamination", pipeline, workers, lambda: lines(Path(work["kept"])))
    return {"steps": steps}


def lines(folder: Path) -> int:
    """Lines of all files below a folder."""
    count = 0
    for file in folder.glob("*.jsonl"):
        with file.open("rb") as rows:
            count += sum(1 for _ in rows)
    return count


def uids(folder: Path) -> Iterator[str]:
    """Ids of the documents in a folder."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8", newline="\n") as rows:
            for line in rows:
                yield json.loads(line)["id"]


def watch(peak: list[int], done: threading.Event) -> None:
    """Put the largest resident memory of this process and its children, in bytes, in peak[0]."""
    me = psutil.Process()
    while not done.wait(0.2):
        total = 0
        for process in (me, *me.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # it ended since it was listed
                continue
        peak[0] = max(peak[0], total)


def main() -> None:
    """The command of the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="a folder of its own; what is in it is deleted")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--numbers", choices=["keep", "fold"], default="keep")
    given = parser.parse_args()
    if given.out.exists():
        shutil.rmtree(given.out)
    given.out.mkdir(parents=True)
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    rows = lines(given.folder / "pool")
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, done))
    watcher.start()
    try:
        benchmarks = given.folder / "benchmarks"
        found = run(
            given.folder / "pool", benchmarks, given.out, given.workers, given.numbers == "fold"
        )
    finally:
        done.set()
        watcher.join()
    with (given.out / "kept.txt").open("w") as kept:
        kept.writelines(uid + "\n" for uid in uids(given.out / "kept"))
    with (given.out / "removed.tsv").open("w") as removed:
        for reason in ("exact", "near", "contamination"):
            removed.writelines(f"{uid}\t{reason}\n" for uid in uids(given.out / "removed" / reason))
    for step in found["steps"]:
        step["rows_per_s"] = rows / step["seconds"]
    total = sum(step["seconds"] for step in found["steps"])
    report = {
        "rows": rows,
        "workers": given.workers,
        "numbers": given.numbers,
        "seconds": total,
        "rows_per_s": rows / total,
        "peak_bytes": peak[0],
        **found,
    }
    (given.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
