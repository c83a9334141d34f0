"""Markers by what a test needs, one local Ray for each pytest process, and what pure tests may do.

A test is `chaos`, `engine`, `ray` or `process` because it says so, or because it uses the fixture
`local_ray`; every other test is `pure`, and with --no-processes fails when it starts a process.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from tests.processes import use_fresh_token

use_fresh_token()
# A busy machine is slow, and that is no failure: of a node that starts, or of one example.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))

NEEDS = ("engine", "chaos", "ray", "process", "pure")  # the slowest first
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
pure_test_runs = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-processes", action="store_true", help="for pure tests: see conftest.py")


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test. xdist deals file by file, the slow kinds first, engines to one worker."""
    place = {}
    for item in items:
        if "local_ray" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("ray")
        if not any(item.get_closest_marker(need) for need in NEEDS):
            item.add_marker("pure")
        rank = next(n for n, need in enumerate(NEEDS) if item.get_closest_marker(need))
        place[item.path] = min(rank, place.get(item.path, rank))
    for item in items:
        group = "engine" if place[item.path] == 0 else f"{item.path.parent.name}-{item.path.stem}"
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: place[item.path])


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
