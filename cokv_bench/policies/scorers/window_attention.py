"""Window attention: how much the last prompt tokens look at each earlier one (SnapKV, arXiv 2404.14469)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.models.form import Form
from cokv_bench.policies.attention import Aggregation, Mean, Pooling, Pools, attention, pooled, received

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("window", "the pooled attention of the last prompt tokens (SnapKV)", "WindowAttention")


def window_attention(
    queries: Tensor,
    keys: Tensor,
    *,
    kernel: int = 7,
    pooling: Pooling = "max",
    over: Mean = "mean",
    scaling: float | Form | None = None,
    window: int | None = None,
) -> Tensor:
    """Pooled mean attention of the window's queries, for each KV head and each token before the window.

    The order of the Ada-KV (arXiv 2407.11550) and CoKV (arXiv 2502.17501) code with grouped queries: softmax per
    query head over all keys, causal inside the window, mean over the window, mean over the group, pooling.

    Args:
        queries: [heads, window, dim], of the last tokens, rotary applied; head h reads KV head h // group.
        keys: [kv_heads, tokens, dim], rotary applied.
        kernel: pooling width in tokens, odd; 1 means no pooling.
        pooling: "max" or "avg"; stride 1, and the average counts the zero padding at both ends.
        over: "mean" (as published) or "max" over the window's queries.
        window: tokens at the end that are not scored; as many as there are queries by default.
        scaling: factor on the dot products, dim ** -0.5 by default, or all that becomes of them.

    Returns:
        float32 [kv_heads, tokens - window].

    Raises:
        RequestError: shapes do not fit together, an even kernel, an unknown pooling or mean.
    """
    aggregation = Aggregation(queries=over, kernel=kernel, pooling=pooling)
    seen = attention(queries, keys, queries.shape[-1] ** -0.5 if scaling is None else scaling, own=queries.shape[1])
    return aggregation(seen[..., : keys.shape[1] - (queries.shape[1] if window is None else window)])


@dataclass(frozen=True)
class WindowAttention(Pools):
    """Scores a prompt as `window_attention` does, layer by layer.

    Attributes:
        kernel, pooling: over the scores.
        queries: "mean" (as published) or "max": by the most that any of the queries looks at a token.
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {**Pools.tried, "queries": ("mean", "max")}

    queries: Mean = "mean"

    def __post_init__(self) -> None:
        Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        if prompt.tokens <= prompt.window:
            return [torch.zeros(prompt.kv_heads, 0) for _ in range(prompt.layers)]
        before = prompt.tokens - prompt.window
        return [pooled(layer[:, :before], self.kernel, self.pooling) for layer in received(prompt, self.queries)]
