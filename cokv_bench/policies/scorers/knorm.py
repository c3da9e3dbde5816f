"""Key norm: the shortest keys are kept (arXiv 2406.11430)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("knorm", "the shortest keys, which receive most attention (arXiv 2406.11430)", "KeyNorm")


@dataclass(frozen=True)
class KeyNorm:
    """Scores a token by minus the length of its key: in many heads short keys are attended to most."""

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        before = max(prompt.tokens - prompt.window, 0)
        return [-keys[:, :before].float().norm(dim=-1) for keys in prompt.keys]
