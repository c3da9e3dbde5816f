"""A policy: a scorer says which tokens per head wants, an allocator says how many it gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from cokv_bench.budget import Budget, tokens_of
from cokv_bench.checks import is_whole
from cokv_bench.errors import RequestError
from cokv_bench.policies.attention import check_queries

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt
    from cokv_bench.kvcache.selection import Selection


#: Tokens of the window of rankings that were published with no other, in this project's runs.
WINDOW = 8


class Scorer(Protocol):
    """How much each KV head wants each token before the window.

    A scorer is a small frozen dataclass: it has no state, and its hash is the key under which a prompt remembers
    its scores. Its class may have more:

    - `needs: ClassVar = frozenset({"accumulated_attention"})`: the signals of `prefill` that it reads.
    - `tried: ClassVar = {"kernel": (7, 3, 11)}`: which values `cokv-bench tune` tries for its parameters and the
      window, the published value first.
    - `window: ClassVar[int] = 32`, `observe: ClassVar[int] = 32`: the published window and number of queries observed,
      which runs use where nothing else says which.
    - `ceiling: ClassVar[bool] = True`: it looks at what no method can have; `register_policy` marks methods with it.
    - `sinks_first: ClassVar = True`: its option `sinks` says how many first tokens it puts before all others.
    - `protecting(sinks)`: the scorer where every head keeps so many first tokens anyway, where that changes more than
      their own places.
    - `at(budget)`: the scorer for a budget, where scores depend on it; it is then asked instead of the scorer itself.
    - `drafts(prompt)`: what it wants to have drafted before it scores, see `cokv_bench.policies.drafts`.
    - `reads_on: ClassVar = True`: it reads on after the prompt, so it cannot score a layer on its own; one with
      `drafts` need not say so.
    - `ranks(prompt, scores, counts)`: the order of the tokens, as `rank_positions` gives it, where it is not that of
      the scores. `counts` is int64 [layers, kv_heads], what each head keeps beyond the window; None where one order
      has to serve all counts.
    """

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One [kv_heads, tokens - window] a layer, larger is better."""
        ...


class Allocator(Protocol):
    """How many tokens beyond the window each KV head keeps; a small frozen dataclass without state.

    Its class may have `tried`, as that of a scorer; an empty tuple there means that a knob of the scorer is not tried.
    One that needs to know what is known about the heads of a model has a parameter `budgets`, a function from a budget
    to int [layers, kv_heads] (window included), and names in `rule` the rule whose head files these are made from, as
    `rule: ClassVar[str] = "cokv"`. With `any_file: ClassVar = True` the files of every rule serve it where none of its
    own is named. `protects: ClassVar[int]` is how many of the first tokens every head keeps where nobody says.
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
        observe: how many of the prompt's last queries a ranking by attention looks at; None for those of the window.
        sinks: the first tokens of a prompt that every head keeps, as it does the window; they are part of the budget.
    """

    name: str
    description: str
    scorer: Scorer | None
    allocator: Allocator | None
    window: int | None = None
    sinks: int = 0
    observe: int | None = None

    def __post_init__(self) -> None:
        if self.observe is not None and not (is_whole(self.observe) and self.observe >= 1):
            raise RequestError(f"At least one query must be observed, not {self.observe!r}.")
        check_queries(self.observe or 1, "Observed queries")
        if not is_whole(self.sinks) or self.sinks < 0:
            raise RequestError(f"The number of protected first tokens must be 0 or more, not {self.sinks!r}.")
        if self.window is not None and not (is_whole(self.window) and self.window >= 1):
            raise RequestError(f"The observation window must be at least 1 token, not {self.window!r}.")

    @property
    def needs(self) -> frozenset[str]:
        """The signals that prompts have to be prefilled with, such as "accumulated_attention"."""
        return needs_of(self.scorer)

    @property
    def by_layer(self) -> bool:
        """Whether a layer can be evicted before the next one is read.

        Not where a scorer reads on after the prompt, or where an allocator shares tokens out between the layers.
        """
        if self.scorer is None or self.allocator is None:
            return True
        reads_on = hasattr(self.scorer, "drafts") or getattr(self.scorer, "reads_on", False)
        return hasattr(self.allocator, "layer") and not reads_on

    @property
    def needs_accumulated_attention(self) -> bool:
        """Whether prompts have to be prefilled with accumulated_attention=True."""
        return "accumulated_attention" in self.needs

    def ranks(self, prompt: "Prompt", budget: int | None = None) -> Tensor:
        """Rank of each token before the window in each head, int32 [layers, kv_heads, tokens - window]; 0 is the best.

        Args:
            budget: for which the tokens are ranked; only a ranking that drafts from an evicted cache depends on it.

        Raises:
            RequestError: the method has no scorer, the scorer lacks what it needs, or it needs a budget.
        """
        scorer = self.scorer_at(budget)
        if scorer is None:
            raise RequestError(f"Method '{self.name}' ranks no tokens; it keeps all.")
        prompt = self.narrowed(prompt)
        return _protected(_ranks(prompt, scorer, None), self.sinks)

    @property
    def needs_budget(self) -> bool:
        """Whether tokens are ranked for a budget, see `Scorer`."""
        return hasattr(self.scorer, "at")

    def scorer_at(self, budget: int | None) -> Scorer | None:
        """The scorer for a budget and protected tokens. Raises `RequestError` where it needs a budget and gets none."""
        scorer = self.scorer
        protecting: Callable[[int], Scorer] | None = getattr(scorer, "protecting", None)
        if self.sinks and protecting is not None:
            scorer = protecting(self.sinks)
        at: Callable[[int], Scorer] | None = getattr(scorer, "at", None)
        if at is None:
            return scorer
        if budget is None:
            raise RequestError(f"Method '{self.name}' ranks tokens for a budget; name one.")
        return at(budget)

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

        prompt = self.narrowed(prompt)
        budget = self._tokens(budget, prompt)
        scorer = None if budget is None else self.scorer_at(budget)
        if scorer is None or self.allocator is None or budget is None or prompt.tokens <= budget:
            return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        scores, _ = _scored(prompt, scorer)
        counts = self.allocator(*self._open(prompt, scores), budget) + self.sinks
        choice = Selection.from_ranks(self._order(prompt, scorer, counts), counts, prompt.window)
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

        part = self.narrowed(part)
        budget = self._tokens(budget, part)
        scorer = None if budget is None else self.scorer_at(budget)
        if scorer is None or self.allocator is None or budget is None or part.tokens <= budget:
            return torch.ones(part.kv_heads, part.tokens, dtype=torch.bool)
        of_layer: Callable[..., Tensor] | None = getattr(self.allocator, "layer", None)
        if of_layer is None or not self.by_layer:
            raise RequestError(
                f"Method '{self.name}' has to see all layers at once, so it cannot evict layer by layer; use "
                "`compress`, which holds the whole cache for it, or prefill and select."
            )
        scores, _ = _scored(part, scorer)
        inner, (opened,) = self._open(part, scores)
        counts = (of_layer(inner, layers, opened, budget) + self.sinks)[None]
        return Selection.from_ranks(self._order(part, scorer, counts), counts, part.window).mask(0)

    def narrowed(self, prompt: "Prompt") -> "Prompt":
        """The prompt with the method's own window and what it observes."""
        if self.window is None and self.observe is None:
            return prompt
        return prompt.with_window(self.window or prompt.window, self.observe)

    def within(self, window: int | None = None) -> "Policy":
        """The policy with a window where it has none of its own, and with the published queries where it names none.

        Args:
            window: None for the published one of the ranking, which is 8 where it says no other.
        """
        own = published_of(type(self.scorer))
        return replace(
            self,
            window=self.window or (own.get("window", WINDOW) if window is None else window),
            observe=self.observe or own.get("observe"),
        )

    def sees(self, window: int) -> int:
        """With which window a prompt has to be prefilled, where prompts have `window` unless methods say otherwise."""
        return max(self.window or window, self.observe or 1)

    def check_budget(self, budget: object, window: int) -> int:
        """The budget as an int.

        Raises:
            RequestError: it is not a whole number above what every head keeps.
        """
        return check_budget(budget, window, self.sinks)

    def _tokens(self, budget: Budget | str | None, prompt: "Prompt") -> int | None:
        """A budget in tokens for a prompt; None, for a method that keeps all alone, as it is."""
        found = tokens_of(budget, prompt.tokens)
        if found is None and (self.scorer is None or self.allocator is None):
            return None
        return self.check_budget(found, prompt.window)

    def _open(self, prompt: "Prompt", scores: list[Tensor]) -> tuple["Prompt", list[Tensor]]:
        """What an allocator shares out: protected tokens count as the window does."""
        if not self.sinks:
            return prompt, scores
        return replace(prompt, window=prompt.window + self.sinks), [layer[:, self.sinks :] for layer in scores]

    def _order(self, prompt: "Prompt", scorer: Scorer, counts: Tensor) -> Tensor:
        return _protected(_ranks(prompt, scorer, counts), self.sinks)


def published_of(scorer: object) -> dict[str, int]:
    """The window and the number of queries observed that a scorer was published with, as far as its class says so."""
    named = {name: getattr(scorer, name, None) for name in ("window", "observe")}
    return {name: value for name, value in named.items() if isinstance(value, int)}


def needs_of(scorer: object) -> frozenset[str]:
    """The signals of `prefill` that a scorer, or its class, reads."""
    needs: frozenset[str] = getattr(scorer, "needs", frozenset())
    # The earlier way to say it.
    summed = {"accumulated_attention"} if getattr(scorer, "needs_accumulated_attention", False) else set[str]()
    return needs | summed


def check_budget(budget: object, window: int, sinks: int = 0) -> int:
    """The budget as an int.

    Raises:
        RequestError: it is not a whole number above the window and the protected first tokens.
    """
    if not is_whole(budget):
        raise RequestError(f"A budget is a whole number of tokens, not {budget!r}.")
    kept = window + sinks
    if sinks and budget <= sinks + 1:
        # No window is small enough, so none is to blame.
        raise RequestError(
            f"A budget of {int(budget)} tokens leaves nothing beyond the {sinks} protected first tokens and a window, "
            "which every head keeps; protect fewer (--sinks, or sinks in the method's name) or raise the budget."
        )
    if budget <= kept:
        first, fewer = (f" and the {sinks} protected first tokens", ", protect fewer") if sinks else ("", "")
        raise RequestError(
            f"A budget of {int(budget)} tokens leaves nothing beyond the observation window of {window}{first}, which "
            f"every head keeps; ask for at least {kept + 1}{fewer} or use a smaller window."
        )
    return int(budget)


def _scored(prompt: "Prompt", scorer: Scorer) -> tuple[list[Tensor], Tensor]:
    """Scores and ranks of a prompt, computed once for all budgets and all policies with this scorer."""
    from cokv_bench.kvcache.selection import rank_positions

    key = ("scored", scorer)
    if key not in prompt.memo:
        scores = scorer(prompt)
        shapes = [tuple(layer.shape) for layer in scores]
        needed = (prompt.kv_heads, max(prompt.tokens - prompt.window, 0))
        if shapes != [needed] * prompt.layers:
            raise RequestError(
                f"{scorer!r} must give {prompt.layers} layers of scores {needed}; it gave shapes {shapes}."
            )
        prompt.memo[key] = scores, rank_positions(scores)
    found: tuple[list[Tensor], Tensor] = prompt.memo[key]
    return found


def _ranks(prompt: "Prompt", scorer: Scorer, counts: Tensor | None) -> Tensor:
    """The order of the tokens in each head, for these counts beyond the window or, with None, for any."""
    scores, ranks = _scored(prompt, scorer)
    own: Callable[..., Tensor] | None = getattr(scorer, "ranks", None)
    return ranks if own is None else own(prompt, scores, counts)


def _protected(ranks: Tensor, sinks: int) -> Tensor:
    """The same order but for the first `sinks` tokens, which come before all others."""
    if not sinks:
        return ranks
    order = ranks.argsort(dim=2)
    order = order.gather(2, (order >= sinks).to(torch.uint8).argsort(dim=2, stable=True))
    places = torch.arange(order.shape[2], dtype=torch.int32).expand(order.shape)
    return torch.empty_like(ranks).scatter_(2, order, places)
