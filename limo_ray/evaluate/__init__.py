"""Evaluation: benchmarks, attempts at them, and scores that can be trusted."""

from limo_ray.core.callable_package import make_callable

make_callable(__name__)
