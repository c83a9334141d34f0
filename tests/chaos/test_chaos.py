"""A small torn cluster in every test run; `python -m tests.chaos.run` is the large one."""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.chaos.run import KINDS, measure, parser, schedule

SEED = os.environ.get("CHAOS_SEED", "7")
SMALL = ["--problems", "350", "--nodes", "3", "--seed", SEED, "--pace", "0.015"]


def can_mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def test_a_torn_cluster_keeps_the_same_and_draws_nothing_twice() -> None:
    """Every kind of fault once: processes, nodes, driver and head, a full disk, a broken part."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:  # Ray's sockets need a short path
        folder = Path(name)
        disk = ["--disk-mb", "48"] if can_mount(folder) else []  # root fills one of its own
        more = ["--kills", str(len(KINDS)), "--once", "--spoil", "0.1", *disk]
        found = measure(folder, parser().parse_args(SMALL + more))
    told = f"CHAOS_SEED={SEED}\n{found.told()}"
    assert found.same_kept, told
    assert found.same_examples, told
    assert not found.drawn_twice, told + "\n" + "\n".join(found.drawn_twice[:5])
    assert not found.too_old, told
    assert found.kills.total() >= len(KINDS) - 2, told


def test_the_seed_fixes_what_is_killed() -> None:
    plan = schedule(3, 40)
    assert plan == schedule(3, 40)
    assert plan != schedule(4, 40)
    assert {kind for kind, _ in plan} == set(KINDS)
    assert sorted(kind for kind, _ in schedule(3, len(KINDS), once=True)) == sorted(KINDS)
