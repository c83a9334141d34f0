"""What a disturbed run came to: out of side logs, attempt log and run directories."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

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
    """Of these, finished before a flush that left them out, though the store took it."""
    unjudged: int
    """Completions that were still with the verifier when their sampler was killed."""
    most_in_interval: int
    """Attempts that one sampler finished in one flush interval, at the most."""
    kills: Counter = field(default_factory=Counter)
    submitted: int = 1
    failures: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return self.same_kept and self.same_examples and not self.drawn_twice and not self.too_old

    def summary(self) -> str:
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
                f"and left out by a flush before: {self.too_old}",
                f"completions lost that were with the verifier: {self.unjudged}",
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
    mine: dict[int, dict[str, dict[Draw, float]]] = defaultdict(lambda: defaultdict(dict))
    continued = 0
    for pid, what, log, problem, index, at in events(draws):
        draw = (logs.get(log, log), problem, index)
        mine[pid][what][draw] = at
        if what in "bc":
            begun[draw].append(at)
            continued += what == "c"
        elif what == "w":
            written[draw].append(at)
    destroyed = {draw: loss.began for loss in losses for draw in loss.draws}
    twice = drawn_twice(begun, written, destroyed)
    lost, too_old, unjudged = [], 0, 0
    for loss in losses:
        count = 0
        for process in [mine[pid] for pid in loss.pids if pid in mine]:
            gone = process["a"].keys() - process["w"].keys()
            count += len(gone)
            too_old += sum(_left_out(draw, process) for draw in gone - process["x"].keys())
            unjudged += len(process["f"].keys() - process["a"].keys())
        if loss.kind != "destroyed":
            lost.append((loss.kind, count))
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
        unjudged=unjudged,
        most_in_interval=max(
            (_most(list(process["a"].values()), flush_s) for process in mine.values()), default=0
        ),
    )


def drawn_twice(
    begun: dict[Draw, list[float]], written: dict[Draw, list[float]], destroyed: dict[Draw, float]
) -> list[str]:
    """Draws that were begun although the log had them; arguments are times, by draw."""
    twice = []
    for draw, starts in begun.items():
        known = [at for at in written.get(draw, []) if not at <= destroyed.get(draw, 0.0)]
        late = [at for at in starts if known and at > min(known)]
        if late:
            twice.append(f"{draw} logged at {min(known):.2f}, begun at {max(late):.2f}")
    return twice


def _left_out(draw: Draw, process: dict[str, dict[Draw, float]]) -> bool:
    """Whether two flushes of its log came after a draw was handed over: the first may have begun
    before."""
    at = process["a"][draw]
    later = {when for each, when in process["w"].items() if each[0] == draw[0] and when > at}
    return len(later) > 1


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
