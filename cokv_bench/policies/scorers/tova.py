"""The last query's attention, the same for all heads of a layer (TOVA, arXiv 2401.06104)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from cokv_bench.policies.attention import attention, by_layer

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("tova", "what the last token looks at, alike for a layer's heads (TOVA, arXiv 2401.06104)", "LastQuery")


@dataclass(frozen=True)
class LastQuery:
    """Scores a prompt by the attention of its last token, mean over all query heads of the layer, without pooling.

    All heads of a layer keep the same tokens. The published method protects no token but the last; with a window it
    has a share of recent tokens as well.
    """

    window: ClassVar[int] = 1
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"window": (1, 8, 16, 32, 64)}

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""

        def score(layer: int) -> Tensor:
            queries, keys = prompt.window_queries[layer][:, -1:], prompt.keys[layer]
            seen = attention(queries, keys, prompt.form(layer), own=1).mean(dim=(0, 1, 2))
            return seen[: prompt.tokens - prompt.window].expand(prompt.kv_heads, -1)

        return by_layer(prompt, score)
