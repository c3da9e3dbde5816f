"""Pseudo-queries: tokens at the positions of the answer, whatever they say (DapQ, arXiv 2603.11564)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import Aggregation, Mean, Pooling, attention, check_queries, window_of

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "dapq",
    "what tokens of the prompt look at from the positions of the answer (DapQ, arXiv 2603.11564)",
    "PseudoQueries",
)


@dataclass(frozen=True)
class PseudoQueries:
    """Reads the prompt's last tokens once more at the positions after it, and scores the prompt by their queries.

    Nothing is generated. The authors find that a query's position matters more than its content, so any text will do;
    the prompt's own last tokens need no tokenizer. They end where the model's context does, and where rotary factors
    change (longrope). Where not even one fits, the window's own queries score.

    Attributes:
        tokens: pseudo-queries.
        kernel, pooling: over the scores.
        queries: "mean" or "max" over the queries.
    """

    #: The whole prompt is read on from, not a layer of it.
    reads_on: ClassVar[bool] = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "kernel": (7, 3, 11, 21, 31),
        "pooling": ("max", "avg"),
        "queries": ("mean", "max"),
        "tokens": (32, 8, 16, 64),
    }

    tokens: int = 32
    kernel: int = 7
    pooling: Pooling = "max"
    queries: Mean = "mean"

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise RequestError(f"There is at least one pseudo-query, not {self.tokens}.")
        check_queries(self.tokens, "Pseudo-queries")
        Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt.

        Raises:
            RequestError: the prompt does not know its model.
        """
        # On first use: rankings are listed without transformers.
        from cokv_bench.kvcache.reading import queries_after, room_after

        model = prompt.reader("Ranking 'dapq'")
        before = max(prompt.tokens - prompt.window, 0)
        aggregation = Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling)
        count = min(self.tokens, prompt.tokens, room_after(model, prompt))
        if count < 1:
            return [aggregation(window_of(prompt, layer)[..., :before]) for layer in range(prompt.layers)]
        asked = queries_after(model, prompt, prompt.token_ids[-count:])
        return [
            aggregation(attention(queries.to(keys.device), keys, prompt.form(layer))[..., :before])
            for layer, (queries, keys) in enumerate(zip(asked, prompt.keys, strict=True))
        ]
