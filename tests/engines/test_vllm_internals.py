"""What the engine relies on in vLLM's private parts: a new version that breaks it fails here."""

import inspect

import pytest

internals = pytest.importorskip("limo_ray.engines.vllm_internals")


def test_a_loop_is_the_last_tokens_several_times_over() -> None:
    from vllm.sampling_params import RepetitionDetectionParams

    loop = RepetitionDetectionParams(max_pattern_size=2, min_count=3)
    ends_in_loop = internals.check_sequence_repetition
    assert ends_in_loop([5, 6, 7, 6, 7, 6, 7], loop)
    assert ends_in_loop([1, 9, 9, 9], loop)
    assert not ends_in_loop([5, 6, 7, 6, 7, 6, 7, 8], loop)
    assert not ends_in_loop([6, 7, 6, 7], loop)
    assert not ends_in_loop([1, 2, 3] * 3, loop)  # a longer pattern


def test_the_engine_has_the_methods_that_are_called() -> None:
    engine = internals.AsyncLLM
    assert inspect.isasyncgenfunction(engine.generate)
    parameters = list(inspect.signature(engine.generate).parameters)
    assert parameters[:4] == ["self", "prompt", "sampling_params", "request_id"]
    assert inspect.iscoroutinefunction(engine.abort)
    inspect.signature(engine.abort).bind("self", ["a request's name"])
    inspect.signature(engine.from_engine_args).bind("arguments")
    inspect.signature(engine.shutdown).bind("self")


def test_a_dead_engine_is_an_exception_of_its_own() -> None:
    assert issubclass(internals.EngineDeadError, Exception)
    assert not issubclass(internals.EngineDeadError, RuntimeError | ValueError | OSError)


def test_the_engine_logs_under_its_modules_name() -> None:
    module = inspect.getmodule(internals.AsyncLLM)
    assert module is not None
    assert module.logger.name == internals.ENGINE_LOGGER
