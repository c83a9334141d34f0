"""What serving uses of vLLM's OpenAI layer and of its engine's insides: it moves between versions.

tests/serve/test_vllm_openai.py checks these names against the installed vLLM. Imports no vLLM until
a function is called.
"""

import copy
import json
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

from limo_ray.serve.adapters import Adapter
from limo_ray.serve.budget import GenerationSegment

SEED_STEP = 1_000_003  # segments of one completion must not see the same random numbers again


def segment_params(request: Any, index: int, segment: GenerationSegment) -> Any:
    """A request's SamplingParams with a segment's limits.

    Args:
        request: SamplingParams, as vLLM's OpenAI layer has completed them.
        index: of the completion.
    """
    params = copy.copy(request)
    params.n = 1
    params.max_tokens = segment.max_tokens
    params.min_tokens = segment.min_tokens
    params.stop = segment.stop
    params.stop_token_ids = segment.stop_ids
    params.include_stop_str_in_output = False
    params.prompt_logprobs = request.prompt_logprobs if segment.number == 0 else None
    params.extra_args = None
    params.output_text_buffer_length = max((len(stop) for stop in segment.stop), default=1) - 1
    params._all_stop_token_ids = set(segment.stop_ids)
    params._eos_token_id = None
    if params.seed is not None:
        params.seed = (params.seed + index + SEED_STEP * segment.number) % 2**63
    return params


def end_token_ids(llm: Any) -> frozenset[int]:
    """Tokens that end a turn, by the tokenizer and the model's generation config."""
    found = llm.model_config.try_get_generation_config().get("eos_token_id")
    ids = {llm.renderer.tokenizer.eos_token_id, *(found if isinstance(found, list) else [found])}
    return frozenset(ids - {None})


async def openai_app(
    llm: Any, model: str, served_name: str, reasoning_parser: str, adapters: list[Adapter]
) -> Any:
    """vLLM's OpenAI routes as an application, from the flags of its command line."""
    from fastapi import FastAPI
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.openai.chat_completion import api_router as chat
    from vllm.entrypoints.openai.completion import api_router as completion
    from vllm.entrypoints.openai.models import api_router as models
    from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    app = FastAPI(title="limo_ray", docs_url=None, redoc_url=None)
    for routes in (chat, completion, models):
        routes.attach_router(app)
    init_exception_handler(app)
    flags = ["--model", model, "--served-model-name", served_name]
    if adapters:
        flags.append("--lora-modules")
        flags += [json.dumps({"name": each.name, "path": str(each.folder)}) for each in adapters]
    args: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args(flags)
    args.structured_outputs_config = llm.vllm_config.structured_outputs_config
    if reasoning_parser:
        args.structured_outputs_config.reasoning_parser = reasoning_parser
    args.log_error_stack = False
    await init_app_state(llm, app.state, args, await llm.get_supported_tasks())
    # vLLM's error handlers stop its server when the engine is dead
    app.state.server = SimpleNamespace(should_exit=False)
    return app


def response_usage(scope: Any) -> tuple[int, int] | None:
    """Tokens of prompt and completions as vLLM counted them, also of a stream without usage."""
    usage = getattr(scope["state"].get("request_metadata"), "final_usage_info", None)
    return None if usage is None else (usage.prompt_tokens, usage.completion_tokens or 0)


def unfinished_requests(llm: Any) -> int:
    """Sequences in the engine."""
    return llm.output_processor.get_num_unfinished_requests()
