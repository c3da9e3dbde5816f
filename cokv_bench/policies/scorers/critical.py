"""Two stages: half by attention, half by attention times the projected value (CriticalKV, arXiv 2502.03805)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cokv_bench.policies.attention import Pools, by_layer
from cokv_bench.policies.projected import projected_norms
from cokv_bench.policies.scorers.window_attention import WindowAttention

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("critical", "half by attention, half by attention times ||v W_O|| (CriticalKV, arXiv 2502.03805)", "Critical")

#: Is added to the attention, so that a token with a large value counts where attention is next to nothing.
EPSILON = 1e-4


@dataclass(frozen=True)
class Critical(Pools):
    """Window attention for the first half of what a head keeps; for the rest, times the norm of the projected value.

    Its scores s are those of window attention, so a split that goes by scores gives each head what it does with
    SnapKV's ranking. Of the c tokens that a head keeps beyond the window, the best c // 2 by s come first; the rest of
    the c are the best of the others by (s + 1e-4) ||v W_O||_1, where the norm is the mean over the query heads.

    Where one order has to serve all counts, the two orders are merged like the teeth of a zip: the token of place p by
    the product and of place r by s comes before another one if min(2 p, 2 r + 1) is smaller. So the first n tokens
    hold the best n // 2 by s and the best (n + 1) // 2 by the product, whatever n is; where both orders name the same
    tokens, it is filled up with the next ones of each.

    Attributes:
        kernel, pooling: over the attention.
        sinks: first tokens that every head keeps; they are none of the c.
    """

    sinks: int = 0

    def protecting(self, sinks: int) -> "Critical":
        """The scorer whose two stages share out what is left beside the first tokens."""
        return replace(self, sinks=sinks)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        return WindowAttention(self.kernel, self.pooling)(prompt)

    def ranks(self, prompt: "Prompt", scores: list[Tensor], counts: Tensor | None) -> Tensor:
        """int32 [layers, kv_heads, tokens - window]: in two stages for these counts, or merged for any; sinks last.

        Raises:
            RequestError: the model's output projections cannot be read.
        """
        first, second = self._orders(prompt, scores)
        places = torch.arange(first.shape[2], dtype=torch.int32).expand(first.shape)
        if counts is None:
            order = torch.minimum(2 * first + 1, 2 * second).argsort(dim=2)
            return torch.empty_like(first).scatter_(2, order, places)
        half = ((counts - self.sinks) // 2)[:, :, None]
        # In the order of the product, how many that are not of the first stage come up to each token.
        order = torch.empty(second.shape, dtype=torch.int64).scatter_(2, second.long(), places.long())
        waiting = (first >= half).gather(2, order)
        later = (half + waiting.cumsum(dim=2) - 1).to(torch.int32)
        return torch.where(first < half, first, torch.empty_like(first).scatter_(2, order, later))

    def _unprotected(self, scores: Tensor) -> Tensor:
        """The scores with those of the first tokens below all others."""
        return torch.cat([torch.full_like(scores[:, : self.sinks], float("-inf")), scores[:, self.sinks :]], dim=1)

    def _orders(self, prompt: "Prompt", scores: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Ranks by s and by the product; a prompt remembers them."""
        from cokv_bench.kvcache.selection import rank_positions  # On first use, without transformers before.

        key = ("orders", self)
        if key not in prompt.memo:

            def product(layer: int) -> Tensor:
                norms = projected_norms(prompt, "Ranking 'critical'")[layer]
                return (scores[layer] + EPSILON) * norms[:, : prompt.tokens - prompt.window]

            orders = scores, by_layer(prompt, product)
            prompt.memo[key] = tuple(rank_positions([self._unprotected(layer) for layer in each]) for each in orders)
        found: tuple[Tensor, Tensor] = prompt.memo[key]
        return found
