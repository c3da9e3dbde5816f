"""The worst case instead of the mean: what any query of the window looks at (DefensiveKV, arXiv 2510.13334)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.policies.attention import OBSERVED, Pooling, by_layer, check_pooling, pooled, window_of
from cokv_bench.policies.projected import projected_norms

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "defensive",
    "the most that any query looks at it, times ||v W_O|| (DefensiveKV, arXiv 2510.13334)",
    "Defensive",
)


@dataclass(frozen=True)
class Defensive:
    """Scores a prompt by the largest attention of the window, with a floor, times the projected value.

    Each query's attention is pooled and rescaled to the mass that it had; then the maximum over the query heads of a
    KV head and over the window, raised to at least the head's mean over the tokens; times ||v W_O||_1, mean over the
    query heads, which sums to 1 over the head's tokens.

    Attributes:
        kernel, pooling: over the attention of a query.
    """

    window: ClassVar[int] = 32
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (32, 8, 4, 16, 64),
        "observe": OBSERVED,
        "kernel": (5, 7, 3, 11, 21),
        "pooling": ("avg", "max"),
    }

    kernel: int = 5
    pooling: Pooling = "avg"

    def __post_init__(self) -> None:
        check_pooling(self.kernel, self.pooling)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt.

        Raises:
            RequestError: the model's output projections cannot be read.
        """
        before = prompt.tokens - prompt.window

        def score(layer: int) -> Tensor:
            seen = window_of(prompt, layer)[..., :before]
            largest = self._pooled(seen).amax(dim=(1, 2))
            floored = largest.maximum(largest.mean(dim=-1, keepdim=True))
            norms = projected_norms(prompt, "Ranking 'defensive'")[layer][:, :before]
            return floored * norms / norms.sum(dim=-1, keepdim=True)

        return by_layer(prompt, score)

    def _pooled(self, seen: Tensor) -> Tensor:
        """Each row pooled, with the sum that it had."""
        rows = seen.flatten(0, 2)
        wide = pooled(rows, self.kernel, self.pooling)
        # A query may look at the window alone, as far as float32 can tell.
        tiny = torch.finfo(wide.dtype).tiny
        return (wide * (rows.sum(-1, keepdim=True) / wide.sum(-1, keepdim=True).clamp(min=tiny))).view(seen.shape)
