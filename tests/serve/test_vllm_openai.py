"""The parts of vLLM that serving uses beside its documented engine are there, as it takes them."""

import inspect

import pytest

from limo_ray.serve import vllm_openai
from limo_ray.serve.budget import GenerationSegment

pytest.importorskip("vllm")


def test_a_segments_parameters() -> None:
    from vllm import SamplingParams

    request = SamplingParams(
        n=3, max_tokens=50, stop=["x"], seed=7, prompt_logprobs=1, extra_args={"a": 1}
    )
    assert {"_all_stop_token_ids", "_eos_token_id"} <= set(SamplingParams.__struct_fields__)
    segment = GenerationSegment(1, [1], 9, 2, ["</think>"], [5])
    made = vllm_openai.segment_params(request, 2, segment)
    assert (made.n, made.max_tokens, made.min_tokens, made.stop) == (1, 9, 2, ["</think>"])
    assert (made.all_stop_token_ids, made.eos_token_id) == ({5}, None)
    assert made.output_text_buffer_length == len("</think>") - 1
    assert (made.prompt_logprobs, made.extra_args) == (None, None)
    assert made.seed == 7 + 2 + vllm_openai.SEED_STEP
    first = vllm_openai.segment_params(request, 0, GenerationSegment(0, [1], 9, 0, [], []))
    assert (first.prompt_logprobs, first.seed) == (1, 7)
    assert request.n == 3


def test_the_openai_layer_has_its_parts() -> None:
    from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.openai.chat_completion import api_router as chat
    from vllm.entrypoints.openai.completion import api_router as completion
    from vllm.entrypoints.openai.models import api_router as models
    from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    assert all(callable(module.attach_router) for module in (chat, completion, models))
    assert callable(init_exception_handler)
    assert list(inspect.signature(init_app_state).parameters)[:3] == [
        "engine_client", "state", "args",
    ]  # fmt: skip
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "m"])
    assert hasattr(args, "log_error_stack")
    assert hasattr(args, "structured_outputs_config")
    assert "final_usage_info" in RequestResponseMetadata.model_fields


def test_the_engine_has_its_parts() -> None:
    from vllm.config import ModelConfig
    from vllm.utils.async_utils import merge_async_iterators
    from vllm.v1.engine.output_processor import OutputProcessor

    from limo_ray.engines.vllm_internals import AsyncLLM

    assert inspect.isasyncgenfunction(merge_async_iterators)
    assert callable(OutputProcessor.get_num_unfinished_requests)
    assert callable(ModelConfig.try_get_generation_config)
    assert callable(AsyncLLM.get_supported_tasks)
    source = inspect.getsource(AsyncLLM.__init__)
    assert "self.renderer" in source
    assert "self.output_processor" in source
