"""limo_ray: find the few hundred examples that teach a model to reason (arXiv 2502.03387).

    from limo_ray import curate, train, rl, evaluate, Verifier, load_config, open_run

Each is imported when it is named, so that `import limo_ray` is quick. `curate`, `train`, `rl`
and `evaluate` are packages that can be called; `limo_ray.api` has the same functions with types.
"""

from importlib import import_module, metadata
from typing import Any

RELEASE = "0.1.0"  # the last one; the version of a wheel comes from the git tag

_LAZY = {
    "Verifier": "limo_ray.verify",
    "load_config": "limo_ray.api",
    "open_run": "limo_ray.runs.reader",
}
_CALLABLE = ("curate", "train", "rl", "evaluate")


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return import_module(f"limo_ray.{name}")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "__version__":
        try:
            return metadata.version("limo_ray")
        except metadata.PackageNotFoundError:  # a checkout that is not installed
            return RELEASE
    raise AttributeError(f"module 'limo_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_CALLABLE, "__version__"])
