"""Lookahead queries: what a short draft of the answer looks at, together with the window (LAQ++, arXiv 2505.20334)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import Aggregation, Mean, Pooling, attention, check_queries
from cokv_bench.policies.drafts import Wanted, drafted

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "laq",
    "what a draft from the evicted cache looks at, and the window (LAQ++, arXiv 2505.20334)",
    "LookaheadQueries",
)


@dataclass(frozen=True)
class LookaheadQueries:
    """Evicts as SnapKV does, drafts on what is left, and scores the full prompt by the queries of window and draft.

    The draft is then thrown away. That it comes from the evicted cache is what makes it fair: a draft from the full one
    would let short answers never meet an evicted cache. All drafts of an example are written as one batch.

    Attributes:
        draft: the most tokens that are drafted.
        kernel, pooling: over the scores, and over those of the first eviction.
        queries: "mean" (as published, up to a factor) or "max" over the queries.
        recent: how many of the window's queries, the last ones, score together with those of the draft; the first
            eviction goes by all of them.
        capacity: tokens per head that the draft sees; None for the budget.
        sinks: first tokens that every head keeps, also for the draft.
    """

    window: ClassVar[int] = 8
    observe: ClassVar[int] = 32
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (8, 4, 16, 32, 64),
        "observe": (32, 8, 16, 64),
        "kernel": (7, 3, 11, 21, 31),
        "pooling": ("max", "avg"),
        "queries": ("mean", "max"),
    }

    draft: int = 8
    kernel: int = 7
    pooling: Pooling = "max"
    queries: Mean = "mean"
    recent: int = 8
    capacity: int | None = None
    sinks: int = 0

    def __post_init__(self) -> None:
        if self.draft < 1:
            raise RequestError(f"A draft has at least one token, not {self.draft}.")
        check_queries(self.draft, "Tokens of a draft")
        if self.recent < 1:
            raise RequestError(f"At least one query of the window scores with the draft, not {self.recent}.")
        if self.capacity is not None and self.capacity < 1:
            raise RequestError(f"A draft sees at least one token of the prompt, not {self.capacity}.")
        Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling)

    def protecting(self, sinks: int) -> "LookaheadQueries":
        """The scorer whose draft sees the first tokens too."""
        return replace(self, sinks=sinks)

    def at(self, budget: int) -> "LookaheadQueries":
        """The scorer whose draft is evicted to a budget."""
        return self if self.capacity is not None else replace(self, capacity=budget)

    def drafts(self, prompt: "Prompt") -> tuple[Wanted, ...]:
        """The one draft that it looks at."""
        from cokv_bench.policies import get_policy

        capacity = self.capacity or prompt.tokens
        first = get_policy("snapkv", kernel=self.kernel, pooling=self.pooling, sinks=self.sinks)
        return (Wanted(first.select(prompt, max(capacity, prompt.window + self.sinks + 1)), self.draft),)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        (wanted,) = self.drafts(prompt)
        return looked_at(
            prompt,
            drafted(prompt, wanted).queries,
            Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling),
            self.recent,
        )


def looked_at(
    prompt: "Prompt", later: list[Tensor], aggregation: Aggregation, recent: int | None = None
) -> list[Tensor]:
    """Scores by the queries of the window and of later tokens.

    Args:
        later: a tensor a layer, [heads, queries, dim], of tokens after the prompt; there may be none of them.
        recent: how many of the window's queries count, the last ones; None for all.

    Returns:
        One float32 [kv_heads, tokens - window] a layer.
    """
    before = max(prompt.tokens - prompt.window, 0)
    scores = []
    for layer, (window, more, keys) in enumerate(zip(prompt.window_queries, later, prompt.keys, strict=True)):
        own = window if recent is None else window[:, -recent:]
        queries = torch.cat([own, more.to(window.device)], dim=1)
        seen = attention(queries, keys, prompt.form(layer), own=own.shape[1])
        scores.append(aggregation(seen[..., :before]))
    return scores
