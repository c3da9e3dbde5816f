"""Shares of the prompt by how much of it is kept, from a file of curves (LU-KV, arXiv 2602.08585)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import ArrayLike

from cokv_bench.errors import RequestError
from cokv_bench.policies.allocators.static import Static
from cokv_bench.policies.options import parameters

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("curves", "shares of the prompt from a file of curves (LU-KV, arXiv 2602.08585)", "Curves")


@dataclass(frozen=True)
class Curves(Static):
    """As `Static`, from a function that is also told the prompt's length: `budgets(budget, knobs={"prompt": tokens})`.

    Such a one is `tokens_at` of a file of curves (`HeadCurves`).
    """

    rule: ClassVar[str] = "curves"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "knobs" not in parameters(self.budgets):
            raise RequestError(
                "The split 'curves' tells its function the prompt's length as knobs, and this one has no such "
                "parameter; give tokens_at of a file of curves, or use the split 'static' for what only needs a budget."
            )

    def _asked(self, prompt: "Prompt", budget: int, **more: Any) -> ArrayLike:
        return super()._asked(prompt, budget, knobs={"prompt": prompt.tokens}, **more)
