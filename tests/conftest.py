"""Markers by what a test needs, one local Ray for each pytest process, and what pure tests may do.

A test is `chaos`, `engine`, `ray` or `process` because it says so, or because it uses the fixture
`local_ray`; every other test is `pure`, and with --no-processes fails when it starts a process.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.processes import use_fresh_token

use_fresh_token()
# A busy machine is slow, and that is no failure: of a node that starts, or of one example.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))

ROOT = Path(__file__).parents[1]
NEEDS = ("engine", "chaos", "ray", "process", "pure")  # the slowest first
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
pure_test_runs = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-processes", action="store_true", help="for pure tests: see conftest.py")


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test, and puts files with the slow kinds first."""
    place = {}
    for item in items:
        if "local_ray" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("ray")
        if not any(item.get_closest_marker(need) for need in NEEDS):
            item.add_marker("pure")
        rank = next(n for n, need in enumerate(NEEDS) if item.get_closest_marker(need))
        place[item.path] = min(rank, place.get(item.path, rank))
    items.sort(key=lambda item: place[item.path])


class ByFile(LoadFileScheduling):
    """The tests of a file stay together, and all files that start vLLM: one fills the machine."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "engine" if "pytest.mark.engine" in (ROOT / file).read_text() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global pure_test_runs
    no_processes = item.config.getoption("no_processes")
    pure_test_runs = no_processes and item.get_closest_marker("pure") is not None
    try:
        return (yield)
    finally:
        pure_test_runs = False


def forbid_processes(event: str, _: tuple[Any, ...]) -> None:
    if pure_test_runs and event in STARTS:
        raise AssertionError(f"a test without a marker starts a process ({event}): mark it")


sys.addaudithook(forbid_processes)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    import ray

    from limo_ray.sampling import ray_data_settings

    if not ray.is_initialized():
        ray.init(
            num_cpus=2, include_dashboard=False, object_store_memory=300 * 2**20,
            logging_level="warning",
        )  # fmt: skip
    ray_data_settings.configure()
    yield ray
    ray.shutdown()
