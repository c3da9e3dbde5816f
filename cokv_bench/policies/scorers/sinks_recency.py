"""Sinks and recency: the first tokens, then the most recent ones (StreamingLLM, arXiv 2309.17453)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("sinks-recent", "the first tokens, then the most recent ones (StreamingLLM)", "SinksRecency")


@dataclass(frozen=True)
class SinksRecency:
    """Scores a prompt by position alone: the first `sinks` tokens are best, then later beats earlier."""

    #: Not the window: whatever it is, the newest tokens are kept.
    sinks_first: ClassVar[bool] = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"sinks": (4, 1, 8, 16, 32)}

    sinks: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.sinks, int) or self.sinks < 0:
            raise RequestError(f"The number of sink tokens must be 0 or more, not {self.sinks!r}.")

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer, the same for all; no columns for short prompts."""
        before = max(prompt.tokens - prompt.window, 0)
        position = torch.arange(before, dtype=torch.float32)
        # Every sink outranks every recent token, and an earlier sink a later one.
        score = torch.where(position < self.sinks, 2 * before - position, position)
        return [score.expand(prompt.kv_heads, before)] * prompt.layers
