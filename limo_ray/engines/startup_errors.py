"""Why an engine did not start, in one line, out of the pages that its processes print."""

import re

# Patterns in what vLLM, torch and the hub client print, in the order in which they are tried.
CAUSES = [
    (
        r"CUDA out of memory|OutOfMemoryError|not enough memory|Cannot allocate memory",
        "out of memory",
    ),
    (
        r"No available memory for the cache|KV cache is needed|"
        r"larger than the maximum number of tokens",
        "out of memory for the KV cache: lower max_model_len or max_num_seqs, or raise gpu_memory "
        "or kv_cache_gib",
    ),
    (r"Free memory on device .* is less than", "out of memory: another process holds the GPU"),
    (
        r"[Rr]epository [Nn]ot [Ff]ound|is not a local folder and is not a valid model|"
        r"couldn't connect to .*huggingface|LocalEntryNotFoundError|"
        r"does not appear to have a file named",
        "model not found",
    ),
    (
        r"[Bb]float16 is only supported on GPUs|is not supported for .*dtype|"
        r"dtype .* is not supported|does not support .*dtype|[Uu]nknown dtype",
        "wrong dtype",
    ),
    (r"greater than the derived max_model_len", "max_model_len is longer than the model's context"),
    (
        r"must be divisible by tensor parallel|attention heads .* divisible",
        "tensor_parallel does not divide the model's heads",
    ),
    (r"No CUDA GPUs are available|Found no NVIDIA driver", "no GPU on this node"),
]
INVALID = re.compile(r"^ *Value error, (.+?)(?: \[type=|$)", re.M)  # pydantic, of a setting
RAISED = re.compile(r"^(?:\(.*?\) )?(?:ERROR .*?\] )?(\w*(?:Error|Exception): .+)$", re.M)


def explain(error: str, output: str) -> str:
    """The cause of a failed start.

    Args:
        error: the message of the exception, which often only points at the output.
        output: what the engine's processes printed.
    """
    text = f"{error}\n{output}"
    for pattern, cause in CAUSES:
        if found := re.search(f".*(?:{pattern}).*", text):
            line = re.sub(r"^.*?\] ", "", found.group(0)).strip()
            return f"{cause} ({line[:300]})"
    if found := INVALID.search(text):
        return found.group(1)[:400].strip()
    raised = RAISED.findall(text)
    return (raised[-1] if raised else error.strip().splitlines()[-1])[:400].strip()
