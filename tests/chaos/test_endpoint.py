"""A small version of `python -m tests.chaos.endpoint` in every test run."""

import asyncio

import pytest

from tests.chaos.endpoint import measure, parser


@pytest.mark.process
def test_odd_requests_and_slow_clients_keep_nobody_from_an_answer() -> None:
    small = ["--odd", "300", "--slow", "30", "--honest", "30"]
    assert asyncio.run(measure(parser().parse_args(small)))
