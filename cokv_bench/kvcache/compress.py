"""Prefill that evicts as it goes: each layer is cut down to what a policy keeps before the next one is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cokv_bench.budget import Budget
from cokv_bench.checks import check_count, is_whole
from cokv_bench.errors import RequestError, quoted
from cokv_bench.kvcache.prefill import Signals, prefill, run_layers, signals
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import RESERVE, RaggedCache, RaggedLayer
from cokv_bench.kvcache.selection import Selection
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import read_again_after


class EvictingPolicy(Protocol):
    """An eviction method; see `cokv_bench.policies.Policy`."""

    @property
    def by_layer(self) -> bool:
        """Whether it needs to see one layer at a time only, so that `select_layer` serves it."""
        ...

    def within(self, window: int | None) -> "EvictingPolicy":
        """The policy with this window where it has none of its own; None for the published one of its ranking."""
        ...

    def sees(self, window: int) -> int:
        """With which window a prompt has to be prefilled."""
        ...

    def select(self, prompt: Prompt, budget: Budget | str | None) -> Selection:
        """What to keep of a prompt."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """The signals of `prefill` that it reads, such as "accumulated_attention"."""
        ...

    def select_layer(self, part: Prompt, layers: int, budget: Budget | str | None) -> Tensor:
        """What to keep of the one layer of `part`, bool [kv_heads, tokens]; the model has `layers` of them."""
        ...


@dataclass(frozen=True)
class Compressed:
    """A prompt of which only the compact cache is left.

    Attributes:
        cache: what the policy keeps, ready to generate from.
        logits: float32 [vocabulary] after the last prompt token.
        tokens: length of the prompt.
    """

    cache: RaggedCache
    logits: Tensor
    tokens: int


def compress(
    model: Model,
    token_ids: Sequence[int] | Tensor,
    policy: EvictingPolicy,
    budget: Budget | str | None,
    *,
    window: int | None = None,
    chunk: int | None = None,
    reserve: int = RESERVE,
    rows: int = 1,
) -> Compressed:
    """Prefill a prompt into a compact cache.

    At most one layer's full keys and values exist at a time, beside the hidden states of the prompt; a policy that has
    to see all layers at once (`by_layer` is False), and a model that is not run lean, have the whole cache until
    prefill ends. What is kept is what `policy.select` keeps after `prefill`.

    Args:
        token_ids: ids of the whole prompt, [tokens] or [1, tokens].
        budget: tokens per KV head on average, window included, or a share of the prompt's such as "25%".
        window: observation window, in tokens, of a policy that has none of its own; None for the published one of its
            ranking, which is 8 where that says no other.
        chunk: tokens that a layer reads at a time; default as many as fit, see `tokens_at_a_time`.
        reserve: tokens that a row has room for before its buffers grow.
        rows: copies of the cache, to go on in several ways as one batch.

    Raises:
        RequestError: see `prefill` and `Policy.select_layer`; no rows, or a name instead of a policy. The cache refuses
            to go on beyond the window of a `longrope` model if the prompt lies within it.
    """
    if not is_whole(rows) or rows < 1:
        raise RequestError(f"A cache has at least one row, not {quoted(rows)}.")
    check_count(reserve, 0, "The room of a row before its buffers grow")
    if not hasattr(policy, "within"):
        such = policy if isinstance(policy, str) else "snapkv"
        raise RequestError(f"compress takes a policy, such as get_policy('{such}'), not {quoted(policy)}.")
    policy = policy.within(window)
    window = policy.sees(1)
    if not policy.by_layer:
        prompt = prefill(model, token_ids, window=window, chunk=chunk, question=(), **signals(policy.needs))
        choices = [policy.select(prompt, budget)] * rows
        return Compressed(RaggedCache(prompt, choices, reserve), prompt.logits, prompt.tokens)
    layers: list[RaggedLayer] = []
    forms: list[Form] = []

    def take(part: Prompt) -> None:
        forms.append(part.form(0))
        kept = policy.select_layer(part, model.layers, budget)
        layers.append(RaggedLayer(part.keys[0], part.values[0], kept[None].expand(rows, -1, -1), reserve))

    ids, logits, others = run_layers(
        model, token_ids, take, window, Signals(**dict.fromkeys(policy.needs, True)), chunk
    )
    # Not of inference mode, so that it may be used in any other.
    with torch.inference_mode(False):
        limit = read_again_after(model.config, ids.numel())
        cache = RaggedCache.of_layers(layers, limit, others=others.rows(rows), form=forms[0])
        return Compressed(cache, logits.clone(), ids.numel())
