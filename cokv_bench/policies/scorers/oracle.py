"""An oracle: what the full cache's own answer looks at. No method, but the ceiling of every ranking by attention."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import Aggregation, Mean, Pooling, check_queries
from cokv_bench.policies.drafts import Wanted, drafted
from cokv_bench.policies.scorers.laq import looked_at

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
#: It may look at what no method has: tables mark it, and tests leave it out.
ENTRY = ("oracle", "a ceiling, not a method: what the full cache's own answer looks at", "Oracle", "ceiling")


@dataclass(frozen=True)
class Oracle:
    """Scores a prompt by the queries of the answer that the full cache gives, of the question where one follows, and of
    the window.

    Attributes:
        answer: the most tokens of the answer that count.
        queries: "max" or "mean" over the queries.
        kernel, pooling: over the scores.
    """

    answer: int = 32
    queries: Mean = "max"
    kernel: int = 11
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        if self.answer < 1:
            raise RequestError(f"An answer has at least one token, not {self.answer}.")
        check_queries(self.answer, "Tokens of an answer")
        Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling)

    def drafts(self, prompt: "Prompt") -> tuple[Wanted, ...]:
        """The full cache's own answer."""
        from cokv_bench.kvcache.selection import Selection

        whole = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        return (Wanted(whole, self.answer, prompt.question),)

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        (wanted,) = self.drafts(prompt)
        own = drafted(prompt, wanted).queries
        return looked_at(prompt, own, Aggregation(queries=self.queries, kernel=self.kernel, pooling=self.pooling))
