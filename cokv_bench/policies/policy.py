"""A policy: a scorer says which tokens per head wants, an allocator says how many it gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Protocol, TypeGuard

import torch
from torch import Tensor

from cokv_bench.budget import Budget, tokens_of
from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt
    from cokv_bench.kvcache.selection import Selection


class Scorer(Protocol):
    """How much each KV head wants each token before the window.

    A scorer is a small frozen dataclass: it has no state, and its hash is the key under which a prompt remembers
    its scores. One that reads `prompt.accumulated_attention` sets `needs_accumulated_attention = True`.
    Its class may say in `tried` which values `cokv-bench tune` tries for its parameters and the window, the published
    value first: `tried: ClassVar = {"kernel": (7, 3, 11)}`.
    """

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One [kv_heads, tokens - window] a layer, larger is better."""
        ...


class Allocator(Protocol):
    """How many tokens beyond the window each KV head keeps; a small frozen dataclass without state.

    Its class may have `tried`, as that of a scorer; an empty tuple there means that a knob of the scorer is not tried.
    One that needs to know what is known about the heads of a model has a parameter `budgets`, a function from a budget
    to int [layers, kv_heads] (window included), and names in `rule` the rule whose head files these are made from, as
    `rule: ClassVar[str] = "cokv"`.
    """

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] that sums to (budget - window) * layers * kv_heads.

        It is asked only where budget < tokens, since shorter prompts are kept whole. An allocator whose layers do
        not depend on each other's scores should also have `layer(prompt, layers, scores, budget)`: the same for one
        layer, [kv_heads], of a model with that many, from a prompt that holds this layer alone (number
        `prompt.first_layer`). With it prompts can be evicted layer by layer, see `cokv_bench.kvcache.compress`.
        """
        ...


@dataclass(frozen=True)
class Policy:
    """A named eviction method.

    Attributes:
        name: as on the command line.
        description: one line with its source.
        scorer, allocator: the two halves; both None keep the whole prompt.
        window: the method's own observation window, at most that of the prompts; None for theirs.
    """

    name: str
    description: str
    scorer: Scorer | None
    allocator: Allocator | None
    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not (is_whole(self.window) and self.window >= 1):
            raise RequestError(f"The observation window must be at least 1 token, not {self.window!r}.")

    @property
    def needs_accumulated_attention(self) -> bool:
        """Whether prompts have to be prefilled with accumulated_attention=True."""
        return bool(getattr(self.scorer, "needs_accumulated_attention", False))

    def ranks(self, prompt: "Prompt") -> Tensor:
        """Rank of each token before the window in each head, int32 [layers, kv_heads, tokens - window]; 0 is the best.

        Raises:
            RequestError: the method has no scorer, or the scorer lacks what it needs.
        """
        if self.scorer is None:
            raise RequestError(f"Method '{self.name}' ranks no tokens; it keeps all.")
        return _scored(self._narrowed(prompt), self.scorer)[1]

    def select(self, prompt: "Prompt", budget: Budget | str | None) -> "Selection":
        """The tokens that each KV head keeps.

        Prompts of at most `budget` tokens are kept whole. Of longer ones exactly budget * layers * kv_heads tokens
        are kept by every policy (but by `full`, and but for published_rounding=True).

        Args:
            prompt: a prefilled prompt. Its scores and ranks are remembered in `prompt.memo` and nowhere else.
            budget: tokens per KV head on average, window included, or a share of the prompt's such as "25%"; None, for
                `full` alone, means no limit.

        Raises:
            RequestError: the budget is not a whole number above the window, or what the method needs is missing.
        """
        # On first use, here and below: options of methods are checked without the prompt cache and its transformers.
        from cokv_bench.kvcache.selection import Selection

        prompt = self._narrowed(prompt)
        budget = tokens_of(budget, prompt.tokens)
        keep_all = self.scorer is None or self.allocator is None
        if not (keep_all and budget is None):
            budget = check_budget(budget, prompt.window)
        if self.scorer is None or self.allocator is None or budget is None or prompt.tokens <= budget:
            return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        scores, ranks = _scored(prompt, self.scorer)
        counts = self.allocator(prompt, scores, budget)
        choice = Selection.from_ranks(ranks, counts, prompt.window)
        total = budget * prompt.layers * prompt.kv_heads
        # Methods are compared at equal totals only, so a wrong allocator must not get as far as a table.
        if choice.total != total and not getattr(self.allocator, "published_rounding", False):
            raise RequestError(f"Method '{self.name}' keeps {choice.total} tokens where {total} are its budget.")
        return choice

    def select_layer(self, part: "Prompt", layers: int, budget: Budget | str | None) -> Tensor:
        """What `select` keeps in one layer, for prompts that are never held as a whole.

        Args:
            part: a prompt of one layer, number `part.first_layer`.
            layers: number of layers of the model.
            budget: as for `select`.

        Returns:
            bool [kv_heads, tokens].

        Raises:
            RequestError: as for `select`, or the method shares tokens out between the layers by their scores.
        """
        from cokv_bench.kvcache.selection import Selection

        whole = torch.ones(part.kv_heads, part.tokens, dtype=torch.bool)
        if self.scorer is None or self.allocator is None:
            return whole
        part = self._narrowed(part)
        budget = check_budget(tokens_of(budget, part.tokens), part.window)
        if part.tokens <= budget:
            return whole
        if not hasattr(self.allocator, "layer"):
            raise RequestError(
                f"Method '{self.name}' shares tokens out between layers, so it cannot evict layer by layer; "
                "use prefill and select."
            )
        scores, ranks = _scored(part, self.scorer)
        counts = self.allocator.layer(part, layers, scores[0], budget)
        return Selection.from_ranks(ranks, counts[None], part.window).mask(0)

    def _narrowed(self, prompt: "Prompt") -> "Prompt":
        return prompt if self.window is None else prompt.with_window(self.window)


def check_budget(budget: object, window: int) -> int:
    """The budget as an int.

    Raises:
        RequestError: it is not a whole number above the window.
    """
    if not is_whole(budget):
        raise RequestError(f"A budget is a whole number of tokens, not {budget!r}.")
    if budget <= window:
        raise RequestError(
            f"A budget of {int(budget)} tokens leaves nothing beyond the observation window of {window}, which every "
            f"head keeps; ask for at least {window + 1} or use a smaller window."
        )
    return int(budget)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or numpy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _scored(prompt: "Prompt", scorer: Scorer) -> tuple[list[Tensor], Tensor]:
    """Scores and ranks of a prompt, computed once for all budgets and all policies with this scorer."""
    from cokv_bench.kvcache.selection import rank_positions

    key = ("scored", scorer)
    if key not in prompt.memo:
        scores = scorer(prompt)
        shapes = [tuple(layer.shape) for layer in scores]
        needed = (prompt.kv_heads, prompt.tokens - prompt.window)
        if shapes != [needed] * prompt.layers:
            raise RequestError(
                f"{scorer!r} must give {prompt.layers} layers of scores {needed}; it gave shapes {shapes}."
            )
        prompt.memo[key] = scores, rank_positions(scores)
    found: tuple[list[Tensor], Tensor] = prompt.memo[key]
    return found
