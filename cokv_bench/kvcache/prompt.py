"""What prefill leaves behind: the full cache of one prompt, and the signals that scorers read."""

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.moments import QueryMoments
from cokv_bench.kvcache.others import OtherLayers
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model


@dataclass(eq=False)
class Prompt:
    """One prefilled prompt. Everything after prefill reads it; nothing writes to it.

    Its layers are those that are evicted; a hybrid network has others between them, whose state it keeps as it is.

    Attributes:
        token_ids: [tokens], on the CPU.
        window: w; every policy keeps the last w tokens of every head.
        keys, values: a tensor a layer, [kv_heads, tokens, dim], rotary applied to the keys.
        window_queries: a tensor a layer, [heads, observed, dim]: rotary-applied queries of the last tokens; there are
            min(window, tokens) of them unless `with_window` says otherwise.
        accumulated_attention: a tensor a layer, float32 [kv_heads, tokens]: attention that each key received from
            all queries of the prompt, mean over the query heads of its group; None unless asked for.
        logits: float32 [vocabulary] after the last token. The first generated token depends on nothing else, so
            no policy and no coalition changes it.
        query_moments: of each layer, mean and covariance of the prompt's queries before rotary; None unless asked for.
        scaling: factor on the dot products of queries and keys; None for dim ** -0.5.
        softcap: see `Form`; None for none.
        sink_logits: a tensor a layer, [heads], the `sinks` of `Form`; None for none.
        others: what the layers that are not evicted hold.
        model: what prefilled it, for scorers that read its weights or read on; None where keys were made by hand.
        question: ids that are going to follow the prompt in question-agnostic runs. A ceiling may look at them; no
            method may.
        first_layer: which layer of the model the first one is; above 0 where layers are looked at one by one.
        room: tokens that follow the prompt, as far as `prefill` was told; its rotary factors are those of a text of
            `length` tokens.
        read_again_after: how long the text may grow before these factors no longer hold and all of it has to be read
            again (longrope); None for any length.
        memo: scratch for what scorers derive from this prompt, so that several budgets share it.
        shared: the same for what does not depend on the window; a prompt has it in common with its narrower ones.
    """

    token_ids: Tensor
    window: int
    keys: list[Tensor]
    values: list[Tensor]
    window_queries: list[Tensor]
    accumulated_attention: list[Tensor] | None
    logits: Tensor
    query_moments: list[QueryMoments] | None = None
    scaling: float | None = None
    softcap: float | None = None
    sink_logits: list[Tensor] | None = None
    others: OtherLayers = field(default_factory=OtherLayers, repr=False)
    model: Model | None = field(default=None, repr=False)
    question: tuple[int, ...] = ()
    first_layer: int = 0
    room: int = 0
    read_again_after: int | None = None
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def tokens(self) -> int:
        return int(self.token_ids.numel())

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the room after it."""
        return self.tokens + self.room

    @property
    def layers(self) -> int:
        return len(self.keys)

    @property
    def kv_heads(self) -> int:
        return int(self.keys[0].shape[0])

    @property
    def factor(self) -> float:
        """Factor on the dot products of queries and keys."""
        return float(self.keys[0].shape[-1]) ** -0.5 if self.scaling is None else self.scaling

    def form(self, layer: int) -> Form:
        """How a layer makes attention weights of dot products."""
        return Form(self.factor, self.softcap, None if self.sink_logits is None else self.sink_logits[layer])

    def reader(self, why: str) -> Model:
        """The model. Raises `RequestError` where there is none; `why` says who reads it, such as "Ranking 'laq'"."""
        if self.model is None:
            raise RequestError(f"{why} reads the model, which this prompt does not know; make prompts with prefill.")
        return self.model

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values that eviction is about, and not of `others`."""
        return sum(part.nbytes for part in (*self.keys, *self.values))

    def with_window(self, window: int, observe: int | None = None) -> "Prompt":
        """The same prompt as if it had been prefilled with a smaller window.

        It is remembered in `memo`, so that all policies with this window share its scores.

        Args:
            observe: how many of the last queries are observed; as many as the window by default.

        Raises:
            RequestError: the window or what is observed is below 1, or above the window that the prompt was prefilled
                with.
        """
        observe = window if observe is None else observe
        held = self.window_queries[0].shape[1]
        if (window, observe) == (self.window, held):
            return self
        if not 1 <= window <= self.window or not 1 <= observe <= max(held, self.window):
            told = f"A window of {window} tokens" + (f" with {observe} queries observed" if observe != window else "")
            raise RequestError(
                f"{told} needs a prompt that was prefilled with one at least as large, and this one was prefilled with "
                f"{self.window}; prefill it with window={max(window, observe, 1)}."
            )
        key = ("window", window, observe)
        if key not in self.memo:
            queries = [layer[:, -observe:] for layer in self.window_queries]
            self.memo[key] = replace(self, window=window, window_queries=queries, memo={})
        narrow: Prompt = self.memo[key]
        return narrow
