"""Curation: from a pool of problems to a published set of examples."""

from limo_ray.core.callable_package import make_callable

make_callable(__name__)
