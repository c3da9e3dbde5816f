"""Window attention: how much the last prompt tokens look at each earlier one (SnapKV, arXiv 2404.14469)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

Pooling = Literal["max", "avg"]


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("window", "the pooled attention of the last prompt tokens (SnapKV)", "WindowAttention")


def window_attention(queries: Tensor, keys: Tensor, *, kernel: int = 7, pooling: Pooling = "max") -> Tensor:
    """Pooled mean attention of the window's queries, for each KV head and each token before the window.

    The order of the Ada-KV (arXiv 2407.11550) and CoKV (arXiv 2502.17501) code with grouped queries: softmax per
    query head over all keys, causal inside the window, mean over the window, mean over the group, pooling.

    Args:
        queries: [heads, window, dim], of the last tokens, rotary applied; head h reads KV head h // group.
        keys: [kv_heads, tokens, dim], rotary applied.
        kernel: pooling width in tokens, odd; 1 means no pooling.
        pooling: "max" or "avg"; stride 1, and the average counts the zero padding at both ends.

    Returns:
        float32 [kv_heads, tokens - window].

    Raises:
        RequestError: shapes do not fit together, an even kernel, an unknown pooling.
    """
    check_pooling(kernel, pooling)
    _check_shapes(queries, keys)
    heads, window, dim = queries.shape
    kv_heads, tokens, _ = keys.shape
    before = tokens - window
    if before == 0:
        return torch.zeros(kv_heads, 0, device=keys.device)
    # Half-precision logits have steps as large as the gaps between tokens at the cut: widen before multiplying.
    grouped = queries.float().reshape(kv_heads, heads // kv_heads * window, dim)
    logits = (grouped @ keys.float().transpose(1, 2)).mul_(dim**-0.5).view(kv_heads, -1, window, tokens)
    future = torch.ones(window, window, dtype=torch.bool, device=keys.device).triu(1)
    logits[..., before:].masked_fill_(future, -torch.inf)
    attention = logits.softmax(dim=-1)[..., :before]  # [kv_heads, group, window, tokens - window]
    received = attention.mean(dim=2).mean(dim=1)
    # A wider kernel sees no further token, and its average has more zeros.
    width = min(kernel, 2 * before - 1)
    pool = functional.max_pool1d if pooling == "max" else functional.avg_pool1d
    return pool(received, width, stride=1, padding=width // 2) * (1 if pooling == "max" else width / kernel)


@dataclass(frozen=True)
class WindowAttention:
    """Scores a prompt by `window_attention`, layer by layer."""

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (8, 16, 32, 64),
        "kernel": (7, 3, 11, 21, 31),
        "pooling": ("max", "avg"),
    }

    kernel: int = 7
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        check_pooling(self.kernel, self.pooling)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        if prompt.tokens <= prompt.window:
            return [torch.zeros(prompt.kv_heads, 0) for _ in range(prompt.layers)]
        return [
            window_attention(queries, keys, kernel=self.kernel, pooling=self.pooling)
            for queries, keys in zip(prompt.window_queries, prompt.keys, strict=True)
        ]


def check_pooling(kernel: int, pooling: str) -> None:
    """Refuse what would shift or change the length of the scores.

    Raises:
        RequestError: the kernel is not a positive odd int, or the pooling is neither "max" nor "avg".
    """
    if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
        raise RequestError(f"The pooling kernel must be a positive odd number of tokens, not {kernel!r}.")
    if pooling not in ("max", "avg"):
        raise RequestError(f"Pooling is 'max' or 'avg', not {pooling!r}; kernel=1 means none.")


def _check_shapes(queries: Tensor, keys: Tensor) -> None:
    shapes = f"queries {tuple(queries.shape)}, keys {tuple(keys.shape)}"
    if queries.ndim != 3 or keys.ndim != 3 or queries.shape[2] != keys.shape[2]:
        raise RequestError(f"Queries are [heads, window, dim] and keys [kv_heads, tokens, dim]; given {shapes}.")
    if keys.shape[0] == 0 or queries.shape[0] == 0 or queries.shape[0] % keys.shape[0]:
        raise RequestError(f"Query heads must be a multiple of KV heads; given {shapes}.")
    if not 1 <= queries.shape[1] <= keys.shape[1]:
        raise RequestError(f"The window must hold at least one token and fit into the prompt; given {shapes}.")
