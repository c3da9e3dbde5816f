"""Mean and variance of the window's attention (CAKE, arXiv 2503.12491)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import OBSERVED, Pooling, by_layer, check_pooling, pooled, window_of

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("cake", "mean and variance of the window's attention (CAKE, arXiv 2503.12491)", "MeanAndVariance")


@dataclass(frozen=True)
class Moments:
    """How the window's queries look at one layer's tokens.

    Attributes:
        mean, variance: over the queries, then mean over the query heads of a KV head, float32 [kv_heads, tokens].
        entropy: -sum a log a over all query heads, queries and tokens before the first query's, in nats; float32 [].
        spread: the variance summed over all query heads and the same tokens, float32 [].
    """

    mean: Tensor
    variance: Tensor
    entropy: Tensor
    spread: Tensor


def window_moments(prompt: "Prompt") -> list[Moments]:
    """Of each layer; a prompt remembers them, for the ranking and for the split."""
    key = "window moments"
    if key not in prompt.memo:
        prompt.memo[key] = [_moments(prompt, layer) for layer in range(prompt.layers)]
    found: list[Moments] = prompt.memo[key]
    return found


def _moments(prompt: "Prompt", layer: int) -> Moments:
    seen = window_of(prompt, layer)
    queries = seen.shape[2]
    mean = seen.mean(dim=2)
    # Of a sample, as published; one query has none.
    variance = (seen - mean[:, :, None]).square_().sum(dim=2) / max(queries - 1, 1)
    # For the split protected first tokens count as the window does, so `prompt.window` does not say where it begins.
    before = slice(prompt.tokens - queries)
    entropy, spread = torch.special.entr(seen[..., before]).sum(), variance[..., before].sum()
    return Moments(mean.mean(dim=1), variance.mean(dim=1), entropy, spread)


@dataclass(frozen=True)
class MeanAndVariance:
    """Scores a prompt by mean + gamma * variance of the attention over the queries of the window, pooled.

    Attributes:
        gamma: weight of the variance.
        kernel, pooling: over the scores.
    """

    window: ClassVar[int] = 32
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (32, 8, 4, 16, 64),
        "observe": OBSERVED,
        "kernel": (5, 7, 3, 11, 21),
        "pooling": ("avg", "max"),
        "gamma": (200.0, 0.0, 50.0, 1000.0),
    }

    gamma: float = 200.0
    kernel: int = 5
    pooling: Pooling = "avg"

    def __post_init__(self) -> None:
        check_pooling(self.kernel, self.pooling)
        if not self.gamma >= 0:
            raise RequestError(f"The weight of the variance must be 0 or more, not {self.gamma}.")

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""

        before = prompt.tokens - prompt.window

        def score(layer: int) -> Tensor:
            found = window_moments(prompt)[layer]
            return pooled((found.mean + self.gamma * found.variance)[:, :before], self.kernel, self.pooling)

        return by_layer(prompt, score)
