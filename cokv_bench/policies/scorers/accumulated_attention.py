"""Accumulated attention: what a token received from all prompt queries (H2O, arXiv 2306.14048)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("accumulated", "the attention received over the whole prompt (H2O)", "AccumulatedAttention")


@dataclass(frozen=True)
class AccumulatedAttention:
    """Scores a prompt by the attention each key receives over the whole prefill, without pooling."""

    needs: ClassVar[frozenset[str]] = frozenset({"accumulated_attention"})
    #: It reads no queries of a window: the window is its share of recent tokens.
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"window": (8, 16, 32, 64, 128, 256)}

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt.

        Raises:
            RequestError: the prompt was prefilled without the sums.
        """
        if prompt.accumulated_attention is None:
            raise RequestError(
                "This prompt holds no accumulated attention, which H2O scores by; "
                "prefill it with accumulated_attention=True."
            )
        before = max(prompt.tokens - prompt.window, 0)
        return [received[:, :before] for received in prompt.accumulated_attention]
