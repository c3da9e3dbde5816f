"""Uniform allocation: every head keeps the same number of tokens (SnapKV, H2O, StreamingLLM)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("uniform", "the same for every head", "Uniform")


def uniform(layers: int, kv_heads: int, base: int) -> Tensor:
    """`base` tokens beyond the window for every head.

    Returns:
        int64 [layers, kv_heads].

    Raises:
        RequestError: base is negative.
    """
    if base < 0:
        raise RequestError(f"A budget of {base} tokens beyond the window cannot be allocated.")
    return torch.full((layers, kv_heads), base, dtype=torch.int64)


@dataclass(frozen=True)
class Uniform:
    """Allocates by `uniform`."""

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window; `scores` play no part."""
        return uniform(prompt.layers, prompt.kv_heads, budget - prompt.window)

    def layer(self, prompt: "Prompt", layers: int, scores: Tensor, budget: int) -> Tensor:
        """int64 [kv_heads] beyond the window."""
        return uniform(1, prompt.kv_heads, budget - prompt.window)[0]
