"""Two classes of heads: some share the budget, the others keep sinks and the window (as DuoAttention, 2410.10819)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.policies.allocators.static import Static

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "two-class",
    "the best heads of any head file share the budget, the others keep sinks and the window (as DuoAttention)",
    "TwoClass",
)


@dataclass(frozen=True)
class TwoClass(Static):
    """Allocates by class alone: a head file says which heads are best, and no more.

    The best ones are those with most tokens at the budget. They share equally what is left after the others have kept
    only the protected first tokens, four unless told otherwise, and the window. What does not fit into them, because
    the prompt is short, goes to the others evenly. The total is always exact.

    Attributes:
        share: of all heads, those that are best.
        heads: how many these are; None for the share.
    """

    #: For the embedded model; any other file will do.
    rule: ClassVar[str] = "cokv-search"
    any_file: ClassVar[bool] = True
    protects: ClassVar[int] = 4

    share: float = 0.25
    heads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise RequestError(f"The share of the best heads is above 0 and at most 1, not {self.share}.")
        if self.heads is not None and self.heads < 1:
            raise RequestError(f"There is at least one best head, not {self.heads}.")

    def _table(self, prompt: "Prompt", layers: int, budget: int) -> Tensor:
        given = self._checked(prompt, layers, budget)
        many = max(1, round(self.share * given.size)) if self.heads is None else self.heads
        if many > given.size:
            raise RequestError(f"{many} heads cannot be the best of {given.size}; name fewer.")
        best = np.zeros(given.size)
        best[np.argsort(-given, axis=None, kind="stable")[:many]] = 1
        total = (budget - prompt.window) * given.size
        return torch.from_numpy(apportion(best.reshape(given.shape), total, prompt.tokens - prompt.window))
