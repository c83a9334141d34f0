"""Lets a package be called: `limo_ray.curate` holds a job's modules and is the job's function."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package whose call is that of the function of its name in `limo_ray.api`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module("limo_ray.api"), name)(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return import_module, (self.__name__,)  # by name, as other modules


def make_callable(package: str) -> None:
    """Makes an imported package callable. Types are those of limo_ray.api."""
    sys.modules[package].__class__ = CallablePackage
