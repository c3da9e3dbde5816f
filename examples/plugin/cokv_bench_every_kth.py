"""A toy policy: tokens spread evenly over the prompt."""

from dataclasses import dataclass

import torch

from cokv_bench.policies import register_policy
from cokv_bench.policies.allocators import Uniform


@dataclass(frozen=True)
class EveryKth:
    """Every `k`-th token comes first, then the others; later beats earlier among each."""

    k: int = 4

    def __call__(self, prompt):
        """One float32 [kv_heads, tokens - window] a layer; larger is better."""
        before = max(prompt.tokens - prompt.window, 0)
        position = torch.arange(before, dtype=torch.float32)
        score = position + before * (position % self.k == 0)
        return [score.expand(prompt.kv_heads, before)] * prompt.layers


register_policy("every-kth", "every fourth token, spread over the prompt (a toy)", EveryKth, Uniform)
