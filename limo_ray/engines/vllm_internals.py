"""The private parts of vLLM that the engine uses: nothing else imports from `vllm.v1`.

vLLM may move or change these in any release; tests/engines/test_vllm_internals.py says which of
their properties the engine relies on. Importing this file loads vLLM (10 s).

AsyncLLM: the engine without an HTTP server. vLLM's public `LLM` takes whole batches, and neither
    aborts one request nor returns one as it ends.
EngineDeadError: what AsyncLLM raises when its processes are gone; vLLM has no public name for it.
check_sequence_repetition: vLLM's own test of whether tokens end in a loop. A continued completion
    must end where vLLM would have ended it, so the same test looks across the seam.
ENGINE_LOGGER: the logger that prints pages when the engine's processes die.
"""

from vllm.v1.core.sched.utils import check_sequence_repetition
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

ENGINE_LOGGER = AsyncLLM.__module__

__all__ = ["ENGINE_LOGGER", "AsyncLLM", "EngineDeadError", "check_sequence_repetition"]
