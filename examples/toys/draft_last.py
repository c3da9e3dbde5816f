"""A toy policy: what the prompt's last token and a short draft of the answer look at."""

from dataclasses import dataclass, replace

import torch

from cokv_bench.policies import get_policy, register_policy
from cokv_bench.policies.allocators import Uniform
from cokv_bench.policies.attention import Aggregation, attention
from cokv_bench.policies.drafts import Wanted, drafted


@dataclass(frozen=True)
class DraftLast:
    """Drafts up to `draft` tokens from the prompt's newest tokens; `capacity` of them, by default the budget."""

    draft: int = 4
    capacity: int | None = None

    def at(self, budget):
        """The scorer for a budget."""
        return replace(self, capacity=self.capacity or budget)

    def drafts(self, prompt):
        """What is drafted before the prompt is scored, from which part of it."""
        return (Wanted(get_policy("recent").select(prompt, self.capacity), self.draft),)

    def __call__(self, prompt):
        """One float32 [kv_heads, tokens - window] a layer; larger is better."""
        (wanted,) = self.drafts(prompt)
        scores = []
        for window, later, keys in zip(
            prompt.window_queries, drafted(prompt, wanted).queries, prompt.keys, strict=True
        ):
            # The prompt's last token comes first, so there is a query even where the draft is empty.
            seen = attention(torch.cat([window[:, -1:], later], dim=1), keys, prompt.factor, own=1)
            scores.append(Aggregation(queries="max")(seen[..., : prompt.tokens - prompt.window]))
        return scores


register_policy("draft-last", "what the last token and a short draft look at (a toy)", DraftLast, Uniform)
