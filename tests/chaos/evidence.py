"""What a disturbed run came to: out of side logs, attempt log and run directories."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

SLACK_S = 1.5  # between an engine's answer and its log: the verdict, and a part under way

Draw = tuple[str, str, int]  # log, problem, index


@dataclass
class Loss:
    """Something that the monkey did: the processes that it ended, or the attempts it destroyed."""

    kind: str
    began: float
    ended: float = 0.0
    pids: list[int] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)


@dataclass
class Findings:
    same_kept: bool
    same_examples: bool
    kept: int
    attempts: int
    drawn_twice: list[str]
    """Draws begun although the log had them."""
    repeated: int
    """Draws begun again that no log had: what the kills cost, finished or not."""
    continued: int
    lost: list[tuple[str, int]]
    """Finished attempts that no log has, by kill: its kind, how many."""
    too_old: int
    """Of these, finished longer before the kill than one flush interval, in a store that works."""
    most_in_interval: int
    """Attempts that one sampler finished in one flush interval, at the most."""
    kills: Counter = field(default_factory=Counter)
    submitted: int = 1
    failures: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return self.same_kept and self.same_examples and not self.drawn_twice and not self.too_old

    def told(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        lost = [count for _, count in self.lost]
        by_kind = ", ".join(
            f"{kind} {'/'.join(str(count) for each, count in self.lost if each == kind)}"
            for kind in sorted({kind for kind, _ in self.lost})
        )
        return "\n".join(
            [
                f"kills: {self.kills.total()} ({kinds})",
                f"the job was submitted {self.submitted} times and failed {len(self.failures)}",
                f"kept set the same: {self.same_kept} ({self.kept}), examples the same: "
                f"{self.same_examples}",
                f"attempts logged: {self.attempts:,}; logged attempts drawn again: "
                f"{len(self.drawn_twice)}; draws begun again: {self.repeated}, "
                f"{self.continued} of all draws continued from a saved part",
                f"finished attempts lost per kill: {sum(lost) / max(1, len(lost)):.1f}, at most "
                f"{max(lost, default=0)} ({by_kind}), "
                f"and longer than a flush interval before it: {self.too_old}",
                f"one flush interval of a sampler held up to {self.most_in_interval}",
            ]
        )


def events(folder: Path) -> Iterator[tuple[int, str, str, str, int, float]]:
    """(pid, what, log, problem, index, time) of all side logs."""
    for path in folder.glob("*.log"):
        pid = int(path.name.split("-")[0])
        for line in path.read_text().splitlines():
            what, log, problem, index, at = line.split()
            yield pid, what, log, problem, int(index), float(at)


def examine(store: Path, plain: Path, draws: Path, losses: list[Loss], flush_s: float) -> Findings:
    """Compares a disturbed run's store with that of an undisturbed one."""
    manifest = json.loads((store / "runs/laptop/manifest.json").read_text())
    logs = {str(s["sampling"]["temperature"]): s["fingerprint"] for s in manifest["sampling"]}
    begun: dict[Draw, list[float]] = defaultdict(list)
    written: dict[Draw, list[float]] = defaultdict(list)
    by_process: dict[int, dict[Draw, float]] = defaultdict(dict)
    by_process_written: dict[int, set[Draw]] = defaultdict(set)
    refused: dict[int, set[Draw]] = defaultdict(set)
    continued = 0
    for pid, what, log, problem, index, at in events(draws):
        draw = (logs.get(log, log), problem, index)
        if what in "bc":
            begun[draw].append(at)
            continued += what == "c"
        elif what == "f":
            by_process[pid][draw] = at
        elif what == "x":
            refused[pid].add(draw)
        else:
            written[draw].append(at)
            by_process_written[pid].add(draw)
    destroyed = {draw: loss.began for loss in losses for draw in loss.draws}
    twice = []
    for draw, starts in begun.items():
        known = [at for at in written[draw] if not at <= destroyed.get(draw, 0.0)]
        late = [at for at in starts if known and at > min(known)]
        if late:
            twice.append(f"{draw} logged at {min(known):.2f}, begun at {max(late):.2f}")
    lost, too_old = [], 0
    for loss in losses:
        gone = [
            (at, draw in refused[pid])
            for pid in loss.pids
            for draw, at in by_process[pid].items()
            if draw not in by_process_written[pid]
        ]
        oldest = loss.began - flush_s - SLACK_S
        too_old += sum(at < oldest and not was_refused for at, was_refused in gone)
        if loss.kind != "destroyed":
            lost.append((loss.kind, len(gone)))
    kept, examples = _outcome(store)
    return Findings(
        same_kept=kept == _outcome(plain)[0],
        same_examples=examples == _outcome(plain)[1],
        kept=sum(reason in (None, "outranked") for _, reason in kept.values()),
        attempts=len(written),
        drawn_twice=twice,
        repeated=sum(len(starts) - 1 for starts in begun.values()),
        continued=continued,
        lost=lost,
        too_old=too_old,
        most_in_interval=max((_most(list(f.values()), flush_s) for f in by_process.values()),
                             default=0),
    )  # fmt: skip


def _most(times: list[float], span: float) -> int:
    """The most of these times that lie within one span."""
    times = sorted(times)
    first = best = 0
    for last, at in enumerate(times):
        while times[first] < at - span:
            first += 1
        best = max(best, last - first + 1)
    return best


def _outcome(store: Path) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str]]]:
    """Stage and reason by problem, and the examples with their text."""
    run = store / "runs/laptop"
    rows = pq.read_table(run / "ledger").to_pylist()
    examples = pq.read_table(run / "examples.parquet").to_pylist()
    return (
        {row["problem_id"]: (row["stage"], row["reason"]) for row in rows},
        [(row["problem_id"], row["messages"][2]["content"]) for row in examples],
    )
