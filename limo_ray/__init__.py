"""limo_ray: find the few hundred examples that teach a model to reason (arXiv 2502.03387)."""

from importlib import metadata
from typing import Any

RELEASE = "0.1.0"  # the last one; the version of a wheel comes from the git tag


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module 'limo_ray' has no attribute {name!r}")
    try:
        return metadata.version("limo_ray")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return RELEASE
