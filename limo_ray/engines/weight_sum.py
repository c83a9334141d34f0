"""The bit sum of a model's weights: it shows that an engine has the trainer's.

vLLM joins matrices (query, key and value become one). A sum over all elements does not see that,
and changes when an element does.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

CHUNK = 1 << 24  # elements that are mixed at once
VIEWS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bit_sum(tensors: Iterable[Tensor]) -> tuple[int, int]:
    """Elements of all tensors, and the sum of their mixed bits modulo 2^63."""
    size = total = 0
    for tensor in tensors:
        flat = tensor.detach().contiguous().view(-1)
        bits = flat.view(VIEWS[flat.element_size()])
        size += bits.numel()
        for start in range(0, bits.numel(), CHUNK):
            # int64 products wrap around: that is the modulus. The cube tells changes apart that
            # cancel out in a plain sum. Padding, which is zero, adds nothing.
            part = bits[start : start + CHUNK].to(torch.int64)
            total += int((part * part * part).sum()) + int(part.sum())
    return size, total % 2**63


class WeightSum:
    """Methods that vLLM's worker gets (`worker_extension_cls`), called with collective_rpc."""

    def weight_sum(self) -> tuple[int, int]:
        """Of the model's parameters; tied ones count once."""
        return bit_sum(self.model_runner.get_model().parameters())  # type: ignore[attr-defined]
