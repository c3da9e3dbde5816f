"""The most that any of the last queries looks at it, older queries counting less (this project)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import by_layer, pooled, window_of

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "fading",
    "the most that any of the last queries looks at it, older ones counting less (this project)",
    "FadingQueries",
)

#: Tokens that the average over neighbours takes in, at least and at most.
NARROWEST, WIDEST = 3, 31


@dataclass(frozen=True)
class FadingQueries:
    """Scores a prompt by the largest attention of the last queries, each halved for every so many tokens after it.

    One query that looks at a token is enough, as a mean over the queries would hide what a word of a question looks at.
    Long questions need many queries and short ones few; since older queries count less, those of a long question are
    seen and the noise of what stands before a short one is not. The mean of that is over the query heads of a KV head,
    and then over neighbouring tokens: a phrase, as wide as the budget affords.

    Attributes:
        half: tokens after which a query counts half.
        phrase: width of the average over neighbours, as a share of the budget; 3 to 31 tokens.
        width: that width in tokens, odd; None for what the budget gives.
    """

    window: ClassVar[int] = 4
    observe: ClassVar[int] = 32
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (4, 8, 16, 32, 64),
        "observe": (32, 16, 64),
        "half": (16.0, 8.0, 4.0),
        "phrase": (0.34, 0.17, 0.5),
    }

    half: float = 16.0
    phrase: float = 0.34
    width: int | None = None

    def __post_init__(self) -> None:
        if self.half <= 0:
            raise RequestError(f"Queries count half after a number of tokens above 0, not {self.half}.")
        if not 0 < self.phrase <= 1:
            raise RequestError(f"A phrase is a share of the budget, above 0 and at most 1, not {self.phrase}.")
        if self.width is not None and (self.width < 1 or self.width % 2 == 0):
            raise RequestError(f"A phrase has an odd number of tokens, not {self.width}.")

    def at(self, budget: int) -> "FadingQueries":
        """The scorer whose phrases are as wide as a budget affords."""
        if self.width is not None:
            return self
        odd = int(self.phrase * budget) // 2 * 2 + 1
        return replace(self, width=min(max(odd, NARROWEST), WIDEST))

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt.

        Raises:
            RequestError: neither a width nor a budget is known.
        """
        width = self.width
        if width is None:
            raise RequestError("The ranking 'fading' ranks tokens for a budget; name one, or a width.")
        before = prompt.tokens - prompt.window

        def score(layer: int) -> Tensor:
            seen = window_of(prompt, layer)[..., :before]
            age = torch.arange(seen.shape[2] - 1, -1, -1, device=seen.device)
            most = (seen * torch.exp2(-age / self.half)[:, None]).amax(dim=2)
            return pooled(most.mean(dim=1), width, "avg")

        return by_layer(prompt, score)
