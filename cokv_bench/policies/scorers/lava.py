"""Attention times the largest value of the head, comparable between heads (LAVa, arXiv 2509.09754)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from cokv_bench.policies.attention import Pools, by_layer, pooled, window_of

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("lava", "window attention times the head's largest value (LAVa, arXiv 2509.09754)", "AttentionTimesValue")


@dataclass(frozen=True)
class AttentionTimesValue(Pools):
    """Scores a prompt by window attention times the head's largest ||v||_1, one factor per head.

    Mean over the queries of the window, pooling, the factor, and then the maximum over the query heads of a KV head.
    The factor changes no order within a head; it matters where heads compete.

    Attributes:
        kernel, pooling: over the scores of a query head.
    """

    window: ClassVar[int] = 32
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {**Pools.tried, "window": (32, 8, 4, 16, 64)}

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        before = prompt.tokens - prompt.window

        def score(layer: int) -> Tensor:
            received = window_of(prompt, layer)[..., :before].mean(dim=2)
            by_head = pooled(received.flatten(0, 1), self.kernel, self.pooling).view(received.shape)
            largest = prompt.values[layer][:, :before].float().abs().sum(dim=-1).amax(dim=-1)
            return by_head.amax(dim=1) * largest[:, None]

        return by_layer(prompt, score)
