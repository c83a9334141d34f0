"""How a run stands, read from storage alone, while it runs and after it died."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from limo_ray.attempts.parts import read_all
from limo_ray.core.records import Verdict
from limo_ray.runs.heartbeat import DEAD_S, FILE
from limo_ray.storage.store import Store

FOLDERS = {
    "curate": "runs", "train": "training", "rl": "rl", "evaluate": "evaluations",
    "study": "studies",
}  # fmt: skip
RESULTS = {
    "curate": "manifest.json", "train": "manifest.json", "rl": "manifest.json",
    "evaluate": "results.json", "study": "results.json",
}  # fmt: skip
WELL = ("running", "done")
STEPS = ("done", "exact", "links", "members", "near")  # of the pool, by the folders they fill


def runs(store: Store, name: str = "") -> list[dict[str, Any]]:
    """All runs of a store, or those of one name: kind, name, status and what they last said."""
    found = []
    for kind, folder in FOLDERS.items():
        names = [name] if name else store.folders(folder)
        found += [one for each in names if (one := run(store, kind, each)) is not None]
    return found


def run(store: Store, kind: str, name: str) -> dict[str, Any] | None:
    """One run; None where there is none.

    `status` is running, done, failed, interrupted, died, or unknown for one without a heartbeat.
    """
    folder = store.within(f"{FOLDERS[kind]}/{name}")
    said = folder.read_json(FILE)
    result = folder.read_json(RESULTS[kind])
    if said is None and result is None:
        if not folder.exists(""):
            return None
        said = {"status": "unknown"}
    said = {"status": "done"} if said is None else said
    said |= {"kind": kind, "name": name, "folder": folder.shown}
    if "at" in said:
        said["silent_s"] = max(0.0, time.time() - said["at"])
        if said["status"] == "running" and said["silent_s"] > DEAD_S:
            said["status"] = "died"
    said["result"] = None if result is None else f"{folder.shown}/{RESULTS[kind]}"
    return said


def details(store: Store, one: dict[str, Any]) -> dict[str, Any]:
    """What the rest of the storage tells of a run: its attempt logs, the pool's steps."""
    stages = one.get("facts", {}).get("sampling", {}).get("stages", [])
    logs = {each["fingerprint"]: in_log(store, each["fingerprint"]) for each in stages}
    found: dict[str, Any] = {"logs": logs}
    if one["kind"] == "curate":
        folder = store.within(f"runs/{one['name']}")
        found["pool"] = folder.read_json("pool.json")
        if found["pool"] is None:
            work = folder.within("pool-work")
            found["pool_steps"] = {step: len(work.files(step, "")) for step in STEPS}
    return found


def in_log(store: Store, fingerprint: str) -> dict[str, Any]:
    """Attempts and verdicts in a log, its parts, and the age in seconds of the newest one."""
    folder = f"attempts/{fingerprint}"

    def counted(part: pq.ParquetFile) -> Counter[str]:
        column = part.read(["verdict"], use_threads=False)["verdict"]
        return Counter({e["values"]: e["counts"] for e in pc.value_counts(column).to_pylist()})

    found, _ = read_all(store, folder, counted, dictionaries=["verdict"], on_broken="leave")
    verdicts: Counter[str] = Counter()
    for counts in found.values():
        verdicts.update(counts)
    times = [info.mtime_ns for info in store.infos(folder)]
    age = max(0.0, time.time() - max(times) / 1e9) if times else None
    return {"attempts": verdicts.total(), "verdicts": dict(verdicts), "parts": len(times),
            "flushed_s": age}  # fmt: skip


# In words.


def line(one: dict[str, Any]) -> str:
    """One run in one line."""
    return f"{one['status']:<11} {one['kind']:<8} {one['name']}: {_gist(one)}"


def _gist(one: dict[str, Any]) -> str:
    facts = one.get("facts", {})
    words = [one["phase"]] if one["status"] != "done" and "phase" in one else []
    if sampling := facts.get("sampling"):
        if "problems" in sampling:
            words.append(f"{sampling['decided']:,} of {sampling['problems']:,} problems decided, "
                         f"{sampling['kept']:,} kept")  # fmt: skip
        else:
            words.append(f"{sampling['attempts']:,} of {sampling['of']:,} attempts")
    if training := facts.get("training"):
        words.append(f"step {training['step']:,} of {training['steps']:,}")
    return ", ".join(words) or "no figures yet"


def text(one: dict[str, Any]) -> str:
    """One run in full."""
    lines = [f"{one['kind']} {one['name']}: {_state(one)}", f"  folder     {one['folder']}"]
    if one.get("error"):
        lines.append(f"  error      {one['error']}")
    if "started" in one:
        spent, silent = _ago(one["at"] - one["started"]), _ago(one["silent_s"])
        where = f"on {one['host']} (pid {one['pid']})"
        lines.append(f"  time       {spent}, last sign of life {silent} ago, {where}")
    lines += _pool(one)
    facts = one.get("facts", {})
    if sampling := facts.get("sampling"):
        lines += _sampling(one, sampling)
    if training := facts.get("training"):
        lines.append(f"  training   step {training['step']:,} of {training['steps']:,}, "
                     + ", ".join(f"{name} {training[name]:.4g}" for name in _figures(training))
                     + f", checkpoint at step {training['checkpoint']:,}")  # fmt: skip
    return "\n".join([*lines, f"  next       {advice(one)}"])


def _state(one: dict[str, Any]) -> str:
    if one["status"] in ("done", "unknown"):
        return str(one["status"])
    return f"{one['status']}, in its phase {one['phase']!r}"


def _pool(one: dict[str, Any]) -> list[str]:
    if one["kind"] != "curate":
        return []
    if pool := one.get("pool"):
        took = ", ".join(f"{step} {seconds:g} s" for step, seconds in pool["seconds"].items())
        return [f"  pool       done: {took}"]
    steps = ", ".join(f"{step} {count}" for step, count in one.get("pool_steps", {}).items())
    now = one.get("facts", {}).get("pool")
    told = f"{now['step']}, {now['parts']} of {now['of']} parts; " if now else ""
    return [f"  pool       {told}files left by its steps: {steps}"]


def _sampling(one: dict[str, Any], sampling: dict[str, Any]) -> list[str]:
    lines = [f"  sampling   {_gist(one | {'status': 'done'})}"]
    live = one["status"] == "running"
    if live and "limo_ray_engines" in sampling:
        lines.append(
            f"  engines    {sampling['limo_ray_engines']} running, "
            f"{sampling['limo_ray_slots_open']} of {sampling['limo_ray_slots']} slots open, "
            f"{sampling['attempts_per_s']:,.1f} attempts/s, "
            f"{sampling['tokens_per_s']:,.0f} tokens/s, {sampling['left']}"
        )
    if "dollars" in sampling:
        cap = f" of ${sampling['spend_cap']:,.2f}" if sampling["spend_cap"] else ""
        lines.append(f"  cost       ${sampling['dollars']:,.2f} spent{cap}")
    for stage in sampling.get("stages", []):
        verdicts = stage["verdicts"]
        lines.append(
            f"  {stage['name']:<10} {sum(verdicts.values()):,} attempts in this run, "
            f"{stage.get('reused', 0):,} taken from the log; "
            f"decided {sum(stage['decisions'].values()):,} ({_shares(stage['decisions'])})"
        )
        log = one["logs"][stage["fingerprint"]]
        age = "never" if log["flushed_s"] is None else f"{_ago(log['flushed_s'])} ago"
        size = f"{log['attempts']:,} attempts in {log['parts']:,} parts"
        shares = _shares(log["verdicts"])
        lines.append(f"  {'':<10} in the log: {size} ({shares}), last written {age}")
    return lines


def _shares(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    order: Callable[[str], int] = [*map(str, Verdict), *counts].index
    return ", ".join(f"{name} {counts[name] / total:.0%}" for name in sorted(counts, key=order))


def _figures(training: dict[str, Any]) -> list[str]:
    return [name for name in ("loss", "held_out_loss", "tokens_per_s") if name in training]


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def advice(one: dict[str, Any]) -> str:
    """What to do now."""
    again = f"the same command goes on where it stopped: {one.get('command', '')}".rstrip(": ")
    if one["status"] == "running":
        return "nothing: it can be stopped at any time, the same command goes on"
    if one["status"] == "done":
        return f"read {one['folder']}/report.html"
    if one["status"] == "unknown":
        return "no heartbeat found: an older version's run, or one that died at its start"
    if one["status"] == "failed":
        return f"mend what the error names; then {again}"
    return again
