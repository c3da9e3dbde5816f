"""Attention for caches that attend themselves, hung into transformers' public extension points.

A model loaded by this project runs the attention implementation `cokv_bench`. Its cache layers come in two kinds:
ours (`AttendingLayer`), which hold keys in their own layout and compute attention over it, and any other, for which
the call goes to transformers' own SDPA unchanged; only logits that SDPA cannot make (soft caps, sinks) are computed
here. So plain `model.generate` on the same network stays plain.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import CacheLayerMixin
from transformers.masking_utils import sdpa_mask

from cokv_bench.errors import RequestError
from cokv_bench.models.form import Form

IMPLEMENTATION = "cokv_bench"
# Logits that exist at a time where no fused kernel serves.
_BLOCK_BYTES = 64 * 2**20


class AttendingLayer(CacheLayerMixin):
    """One layer of a cache that computes attention over its own storage.

    `update` is called by the model with the new keys and values and hands them back with a reference to this layer;
    the registered attention function then calls `attend`. Nothing else passes between the two.
    """

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        """Store the new tokens and attend to all that the layer holds, causally.

        Args:
            query: [rows, heads, new, dim], rotary applied.
            key, value: [rows, kv_heads, new, dim] of the new tokens.
            form: how dot products become weights.

        Returns:
            [rows, new, heads, dim].
        """

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        tagged = key_states.view_as(key_states)
        tagged.attending_layer = self  # type: ignore[attr-defined]
        return tagged, value_states

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # `attend` masks by itself; a square says to transformers that plain causal order needs no mask tensor.
        return query_length, 0

    def get_max_length(self) -> int:
        return -1

    # What earlier releases of transformers 5 call it.
    get_max_cache_shape = get_max_length


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The registered attention function: [rows, heads, new, dim] to [rows, new, heads, dim].

    Args:
        softcap, s_aux: as transformers names them, see `Form`.
    """
    layer = getattr(key, "attending_layer", None)
    form = Form(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, s_aux)
    if layer is not None:
        if attention_mask is not None:
            raise RequestError(
                f"Layer {getattr(module, 'layer_idx', '?')} of the model masks earlier tokens (padding, or attention "
                "that is sparse by a rule of its own), which an evicted cache cannot follow."
            )
        # Some architectures look at the result as one row a token.
        return layer.attend(query, key, value, form).contiguous(), None
    if form.plain:
        sdpa = AttentionInterface()["sdpa"]
        return sdpa(module, query, key, value, attention_mask, scaling=form.scaling, **kwargs)
    return formed_attention(query, key, value, attention_mask, form).transpose(1, 2), None


def formed_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, form: Form) -> Tensor:
    """Attention in any form, in blocks of queries so that memory stays linear in the text.

    Args:
        query: [rows, heads, new, dim].
        key, value: [rows, kv_heads, tokens, dim].
        mask: [rows or 1, 1, new, tokens], bool of what is seen, or what is added to the logits; None for causal order,
            the new tokens being the last.

    Returns:
        [rows, heads, new, dim].
    """
    rows, heads, new, dim = query.shape
    kv_heads, tokens = key.shape[1:3]
    block = max(1, min(new, _BLOCK_BYTES // (4 * rows * heads * max(tokens, 1))))
    wide = key.float().transpose(2, 3)
    found = []
    for start in range(0, new, block):
        part = query[:, :, start : start + block]
        count = part.shape[2]
        # The queries of a KV head are the rows of one matrix product.
        grouped = part.reshape(rows, kv_heads, -1, dim).float()
        logits = form.cap(grouped @ wide * form.scaling).view(rows, kv_heads, -1, count, tokens)
        if mask is None:
            seen = torch.ones(count, tokens, dtype=torch.bool, device=query.device).tril(tokens - new + start)
        else:
            seen = mask[:, :, None, start : start + count, :tokens]
        # Padding sees nothing: of infinities its weights would be NaN, and so would be what later layers make of it.
        least = torch.finfo(logits.dtype).min
        logits = logits.masked_fill(~seen, least) if seen.dtype == torch.bool else (logits + seen).clamp(min=least)
        logits = logits.flatten(2, 3)
        column = form.sink_logits(kv_heads, logits.shape[2])
        if column is not None:
            logits = torch.cat([logits, column.expand(rows, -1, -1, -1)], dim=-1)
        weights = logits.softmax(dim=-1)[..., :tokens].to(value.dtype)
        found.append((weights @ value).view(rows, heads, count, value.shape[-1]))
    return torch.cat(found, dim=2)


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
