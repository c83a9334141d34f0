"""A small torn cluster in every test run; `python -m tests.chaos.run` is the large one."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.chaos.run import KINDS, measure, parser, schedule

SEED = os.environ.get("CHAOS_SEED", "7")
SMALL = ["--problems", "300", "--nodes", "3", "--seed", SEED, "--pace", "0.03"]
# Those that cost the least time; `run` has more.
FAULTS = ["sampler", "preempt", "engine", "node", "driver", "corrupt"]


def can_mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


@pytest.mark.chaos
def test_a_torn_cluster_keeps_the_same_and_draws_nothing_twice() -> None:
    """Of each kind of fault one, and a store that takes a tenth of all writes late or not."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:  # Ray's sockets need a short path
        folder = Path(name)
        faults = list(FAULTS)
        more = ["--once", "--spoil", "0.1"]
        if can_mount(folder):  # root has a disk of its own to fill
            faults.append("fill")
            more += ["--disk-mb", "32"]
        more += ["--kills", str(len(faults)), "--only", ",".join(faults)]
        found = measure(folder, parser().parse_args(SMALL + more))
    summary = f"CHAOS_SEED={SEED}\n{found.summary()}"
    assert found.same_kept, summary
    assert found.same_examples, summary
    assert not found.drawn_twice, summary + "\n" + "\n".join(found.drawn_twice[:5])
    assert not found.too_old, summary
    assert sum(count for kind, count in found.lost if kind == "preempt") == 0, summary
    assert found.kills.total() >= len(faults) - 2, summary


def test_the_seed_fixes_what_is_killed() -> None:
    plan = schedule(3, 40)
    assert plan == schedule(3, 40)
    assert plan != schedule(4, 40)
    assert {kind for kind, _ in plan} == set(KINDS)
    assert sorted(kind for kind, _ in schedule(3, len(KINDS), once=True)) == sorted(KINDS)
