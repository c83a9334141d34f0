"""A small version of `python -m tests.chaos.serving` in every test run."""

import asyncio

from ray import serve

from tests.chaos.serving import measure, parser, start


def test_killed_replicas_and_ingresses_leave_no_request_without_an_end(local_ray) -> None:
    small = parser().parse_args(["--seconds", "8", "--clients", "6"])
    try:
        assert asyncio.run(measure(start(replicas=2), small))
    finally:
        serve.shutdown()
