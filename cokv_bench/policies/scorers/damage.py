"""Output damage: how much the output of a head changes when a token goes, to first order (this project)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from cokv_bench.policies.attention import Pools, by_layer, pooled
from cokv_bench.policies.outputs import effects

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("damage", "how much a head's output changes without the token (this project)", "OutputDamage")


@dataclass(frozen=True)
class OutputDamage(Pools):
    """Scores a prompt by the root mean square change of the window's outputs, pooled.

    Without token j the output o = sum_j a_j v_j of a query becomes o + a_j / (1 - a_j) (o - v_j), so to first order in
    a_j it moves by a_j ||v_j - o||. The mean of the squares is over the queries of the window and the query heads of a
    KV head; unlike attention it knows that a token whose value is what all others say is not missed.

    Attributes:
        kernel, pooling: over the scores.
    """

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""

        def score(layer: int) -> Tensor:
            found = effects(prompt, layer)
            change = (found.weights.square() * found.distances()).mean(dim=(1, 2)).sqrt()
            return pooled(change, self.kernel, self.pooling)

        return by_layer(prompt, score)
