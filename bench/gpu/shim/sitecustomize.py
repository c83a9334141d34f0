"""For machines with vLLM 0.26 and torch 2.11 alone: limo_ray needs newer names of both.

bench/gpu/run.sh puts this folder first on PYTHONPATH, and Python imports it at its start. Nothing
is changed where the newer names exist.

- vllm.entrypoints.launchers.{api_server.app_state,cli_args} and
  vllm.entrypoints.serve.exception_handling.register: under their 0.26 names
- torch.nn.attention.varlen.varlen_attn: takes (and drops) enable_gqa; the kernel does GQA anyway
"""

import importlib
import importlib.abc
import importlib.util
import sys


def _app_state(module):
    module.init_app_state = importlib.import_module(
        "vllm.entrypoints.openai.api_server"
    ).init_app_state


def _cli_args(module):
    module.make_arg_parser = importlib.import_module(
        "vllm.entrypoints.openai.cli_args"
    ).make_arg_parser


def _register(module):
    def init_exception_handler(app):
        from fastapi import HTTPException
        from fastapi.exceptions import RequestValidationError
        from vllm.entrypoints.openai import api_server as old

        app.exception_handler(HTTPException)(old.http_exception_handler)
        app.exception_handler(RequestValidationError)(old.validation_exception_handler)
        app.exception_handler(old.EngineGenerateError)(old.engine_error_handler)
        app.exception_handler(old.EngineDeadError)(old.engine_error_handler)
        app.exception_handler(old.GenerationError)(old.generation_error_handler)
        for kind in (
            old.VLLMValidationError,
            old.VLLMUnprocessableEntityError,
            old.VLLMNotFoundError,
            ValueError,
            TypeError,
            OverflowError,
            NotImplementedError,
            Exception,
        ):
            app.exception_handler(kind)(old.exception_handler)

    module.init_exception_handler = init_exception_handler


def _package(module):
    module.__path__ = []


MADE = {
    "vllm.entrypoints.launchers": _package,
    "vllm.entrypoints.launchers.api_server": _package,
    "vllm.entrypoints.launchers.api_server.app_state": _app_state,
    "vllm.entrypoints.launchers.cli_args": _cli_args,
    "vllm.entrypoints.serve.exception_handling": _package,
    "vllm.entrypoints.serve.exception_handling.register": _register,
}


def _varlen(module):
    import inspect

    plain = module.varlen_attn
    if "enable_gqa" in inspect.signature(plain).parameters:
        return

    def varlen_attn(*args, enable_gqa=False, **rest):
        return plain(*args, **rest)

    module.varlen_attn = varlen_attn


class _Made(importlib.abc.Loader):
    def __init__(self, fill):
        self.fill = fill

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        self.fill(module)


class _After(importlib.abc.Loader):
    """A module's own loader, and then something more."""

    def __init__(self, loader, then):
        self.loader, self.then = loader, then

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        self.then(module)


class _Last(importlib.abc.MetaPathFinder):
    """After all other finders: only what vLLM does not have."""

    def find_spec(self, name, path=None, target=None):
        if name in MADE:
            spec = importlib.util.spec_from_loader(
                name, _Made(MADE[name]), is_package=MADE[name] is _package
            )
            return spec
        return None


class _First(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torch.nn.attention.varlen":
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)):
                spec.loader = _After(spec.loader, _varlen)
                return spec
        return None


sys.meta_path.insert(0, _First())
sys.meta_path.append(_Last())
