"""Static allocation: each head's budget is known before the prompt (HeadKV arXiv 2410.19258, CoKV 2502.17501)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.policies.options import parameters

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt
    from cokv_bench.models import Model


#: What a function of the budget is told where it asks for it.
_TOLD = {"window", "published_rounding"}

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("static", "what a file or a function of the budget says (HeadKV, CoKV)", "Static")


@dataclass(frozen=True)
class EmbeddedBudgets:
    """The budgets of a rule that come with the package, for the embedded model.

    Attributes:
        method: the rule, such as "cokv".
        knobs: of the rule, such as ("alpha", 10); those that are missing are left to the file.
    """

    method: str
    knobs: tuple[tuple[str, Any], ...] = ()

    def check_model(self, model: "Model") -> None:
        """Raise `RequestError` where they were made for another model."""
        from cokv_bench.budgets import embedded, load_head_file
        from cokv_bench.budgets.fingerprint import check_same_model

        made_for = load_head_file(embedded.SHIPPED[self.method]()).model
        check_same_model(made_for, model.fingerprint, f"The head file of '{self.method}' that ships")

    @property
    def ranking(self) -> Mapping[str, Any]:
        """Window, kernel, pooling and scorer that they were made for; empty where they depend on none or none ship."""
        from cokv_bench.budgets import embedded, load_head_file  # reads a file: only when it is used

        return load_head_file(embedded.SHIPPED[self.method]()).ranking if self.method in embedded.SHIPPED else {}

    def __call__(
        self,
        budget: int,
        *,
        window: int = 8,
        published_rounding: bool = False,
        knobs: Mapping[str, Any] = MappingProxyType({}),
    ) -> ArrayLike:
        """int [layers, kv_heads], window included; `knobs` are further ones."""
        from cokv_bench.budgets import embedded_budgets

        made = embedded_budgets(
            self.method, {**knobs, **dict(self.knobs)}, window=window, published_rounding=published_rounding
        )
        return made(budget)


@dataclass(frozen=True)
class Static:
    """Allocates what a budget file, or any function of the budget, says.

    Attributes:
        budgets: from the budget B (tokens per head on average, window included) to int [layers, kv_heads], window
            included. It may miss the total B * layers * kv_heads by rounding, up to a token a head. One that has
            parameters `window` or `published_rounding`, as `tokens_at` of a head file, is told what every head keeps,
            the policy's window and protected first tokens, and which rounding is wanted.
        published_rounding: take the numbers as they are, cut off at the prompt, surplus lost, as the published
            code does. By default the total is exact: a head that is given more than the prompt keeps all of it, one
            that is given less than the window keeps the window, and the others share the difference in proportion to
            what they are given beyond the window.
    """

    budgets: Callable[..., ArrayLike]
    published_rounding: bool = False

    def __post_init__(self) -> None:
        if not callable(self.budgets):
            raise RequestError(
                "budgets must be a function from a budget to int [layers, kv_heads], window included; "
                f"given {type(self.budgets).__name__}."
            )

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window; `scores` play no part.

        Raises:
            RequestError: the budgets are for another model or another total, or are not counts.
        """
        return self._table(prompt, prompt.layers, budget)

    def layer(self, prompt: "Prompt", layers: int, scores: Tensor, budget: int) -> Tensor:
        """int64 [kv_heads] beyond the window.

        Raises:
            RequestError: as above.
        """
        return self._table(prompt, layers, budget)[prompt.first_layer]

    def _table(self, prompt: "Prompt", layers: int, budget: int) -> Tensor:
        given = self._checked(prompt, layers, budget)
        room = prompt.tokens - prompt.window
        beyond = np.maximum(given - prompt.window, 0)
        if self.published_rounding:
            return torch.from_numpy(np.minimum(beyond, room))
        if abs(int(given.sum()) - budget * given.size) > given.size:
            raise RequestError(
                f"The head budgets hold {given.mean():.1f} tokens per head on average where {budget} are asked for; "
                "make them for this budget."
            )
        total = (budget - prompt.window) * given.size
        return torch.from_numpy(apportion(beyond, total, room))

    def _asked(self, prompt: "Prompt", budget: int, **more: Any) -> ArrayLike:
        """What the function says."""
        wanted = {"window": prompt.window, "published_rounding": self.published_rounding, **more}
        return self.budgets(
            budget, **{name: wanted[name] for name in (*more, *_TOLD & parameters(self.budgets).keys())}
        )

    def _checked(self, prompt: "Prompt", layers: int, budget: int) -> NDArray[np.int64]:
        given = np.asarray(self._asked(prompt, budget))
        needed = (layers, prompt.kv_heads)
        if given.shape != needed:
            raise RequestError(
                f"The head budgets have shape {given.shape}, but this model needs {needed} (layers, KV heads); "
                "profile this model first."
            )
        if isinstance(self.budgets, EmbeddedBudgets) and prompt.model is not None:
            self.budgets.check_model(prompt.model)
        if not np.issubdtype(given.dtype, np.integer) or (given < 0).any():
            raise RequestError("Head budgets must be whole numbers of tokens, 0 or more.")
        return given.astype(np.int64)


@dataclass(frozen=True)
class ByValues(Static):
    """By head values (CoKV)."""

    rule: ClassVar[str] = "cokv"


@dataclass(frozen=True)
class ByScores(Static):
    """By head scores (HeadKV)."""

    rule: ClassVar[str] = "headkv"


@dataclass(frozen=True)
class ByShares(Static):
    """By searched shares (CoKV-Search)."""

    rule: ClassVar[str] = "cokv-search"
    #: Shares keep the ranking that they were searched with.
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = dict.fromkeys(
        ("window", "observe", "kernel", "pooling", "queries"), ()
    )
