"""An idea: attention counts for more where the value that it reads is large (as in VATP, arXiv 2406.12335)."""

from dataclasses import dataclass
from typing import ClassVar

from cokv_bench.policies import register_policy
from cokv_bench.policies.allocators import Uniform
from cokv_bench.policies.scorers.window_attention import WindowAttention


@dataclass(frozen=True)
class Valued(WindowAttention):
    """SnapKV's score of a token times the size of its value, to the power of `power`."""

    tried: ClassVar = {**WindowAttention.tried, "power": (1.0, 0.5, 2.0)}

    power: float = 1.0

    def __call__(self, prompt):
        """One float32 [kv_heads, tokens - window] per layer; larger is better."""
        before = max(prompt.tokens - prompt.window, 0)
        sizes = [values[:, :before].float().norm(p=1, dim=-1) for values in prompt.values]
        return [score * size**self.power for score, size in zip(super().__call__(prompt), sizes, strict=True)]


register_policy("valued", "window attention times the size of the value", Valued, Uniform)
