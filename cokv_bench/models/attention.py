"""Attention for caches that attend themselves, hung into transformers' public extension points.

A model loaded by this project runs the attention implementation `cokv_bench`. Its cache layers come in two kinds:
ours (`AttendingLayer`), which hold keys in their own layout and compute attention over it, and any other, for which
the call goes to transformers' own SDPA unchanged. So plain `model.generate` on the same network stays plain.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import CacheLayerMixin
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION = "cokv_bench"


class AttendingLayer(CacheLayerMixin):
    """One layer of a cache that computes attention over its own storage.

    `update` is called by the model with the new keys and values and hands them back with a reference to this layer;
    the registered attention function then calls `attend`. Nothing else passes between the two.
    """

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Store the new tokens and attend to all that the layer holds, causally.

        Args:
            query: [rows, heads, new, dim], rotary applied.
            key, value: [rows, kv_heads, new, dim] of the new tokens.
            scaling: factor on the dot products.

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


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The registered attention function: [rows, heads, new, dim] to [rows, new, heads, dim]."""
    layer = getattr(key, "attending_layer", None)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layer is None:
        sdpa = AttentionInterface()["sdpa"]
        return sdpa(module, query, key, value, attention_mask, scaling=scale, **kwargs)
    return layer.attend(query, key, value, scale), None


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
