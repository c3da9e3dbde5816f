"""Recency: the newest tokens, the simplest of the trivial baselines."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("recent", "the newest tokens alone, a trivial baseline", "Recent")


@dataclass(frozen=True)
class Recent:
    """Scores a token by its position: later beats earlier, and the first tokens go first."""

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer, the same for all; no columns for short prompts."""
        before = max(prompt.tokens - prompt.window, 0)
        return [torch.arange(before, dtype=torch.float32).expand(prompt.kv_heads, before)] * prompt.layers
