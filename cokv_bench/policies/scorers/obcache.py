"""Optimal brain damage of the cache: the squared error of a head's output without a token (OBCache, 2510.07651)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import OBSERVED, Pooling, by_layer, check_pooling, pooled
from cokv_bench.policies.outputs import effects

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("obcache", "the error of a head's output without the token (OBCache, arXiv 2510.07651)", "OptimalBrain")

By = Literal["value", "key", "joint"]


@dataclass(frozen=True)
class OptimalBrain:
    """Scores a prompt by the second-order loss of the window's outputs when a key or value is set to nothing.

    With a the attention, z the logit and o the output of a query, summed over the queries of the window:

    - value: a^2 ||v||^2, the error without the value.
    - key: (a z)^2 ||v - o||^2, the error with a logit of 0.
    - joint: both and their cross term 2 a^2 z (||v||^2 - v . o), together a^2 ||v + z (v - o)||^2.

    Then the mean over the query heads of a KV head, and pooling.

    Attributes:
        by: which of the three.
        kernel, pooling: over the scores.
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (8, 4, 16, 32, 64),
        "observe": OBSERVED,
        "kernel": (7, 3, 11, 21, 31),
        "pooling": ("max", "avg"),
        "by": get_args(By),
    }

    by: By = "joint"
    kernel: int = 7
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        check_pooling(self.kernel, self.pooling)
        if self.by not in get_args(By):
            raise RequestError(f"OBCache scores by {', '.join(get_args(By))}, not {self.by!r}.")

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""

        def score(layer: int) -> Tensor:
            return pooled(self._error(prompt, layer).sum(dim=2).mean(dim=1), self.kernel, self.pooling)

        return by_layer(prompt, score)

    def _error(self, prompt: "Prompt", layer: int) -> Tensor:
        """[kv_heads, group, queries, tokens - window]."""
        found = effects(prompt, layer)
        squares, logits = found.weights.square(), found.logits
        norms = found.values.square().sum(dim=2)[:, None, None]
        if self.by == "value":
            return squares * norms
        by_key = logits.square() * found.distances()
        if self.by == "key":
            return squares * by_key
        # A square, which rounding must not make less than nothing.
        return squares * (norms + by_key + 2 * logits * found.pulls()).clamp_(min=0)
