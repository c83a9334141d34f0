"""Reinforcement learning from verified rollouts: a pool of problems and a model become a model."""

from limo_ray.core.callable_package import make_callable

make_callable(__name__)
