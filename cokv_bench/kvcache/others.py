"""What a hybrid network holds beside what is evicted: layers that slide, chunk or keep a state.

They stay in transformers' own cache layers. Some architectures keep a state and attend to everything in one layer
(Falcon-H1); its keys and values are evicted, and its state stays.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.model import Model


@dataclass(frozen=True, eq=False)
class OtherLayers:
    """What the layers that are not evicted hold of a text; nothing for most networks.

    Attributes:
        layers: transformers' cache layers by their number in the network, of one row; a `StateBeside` where the layer
            is evicted and keeps a state as well.
    """

    layers: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, model: Model) -> "OtherLayers":
        """Before any text."""
        evicted = set(model.evicted_layers)
        found: dict[int, Any] = {}
        for number, layer in enumerate(DynamicCache(config=model.config).layers):
            if number not in evicted:
                found[number] = layer
            elif isinstance(layer, LinearAttentionCacheLayerMixin):
                found[number] = StateBeside.of(layer)
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of what a row holds; a sliding window is as long as the text until it is full."""
        return sum(part.nbytes for layer in self.layers.values() for part in _tensors(layer))

    def rows(self, count: int) -> "OtherLayers":
        """A copy with that many rows alike, which may be written to."""
        if not self.layers:
            return self
        # Made outside inference mode, so that autograd and plain `generate` may use them.
        with torch.inference_mode(False), torch.no_grad():
            copies = {number: deepcopy(layer) for number, layer in self.layers.items()}
            keep_rows(copies.values(), torch.zeros(count, dtype=torch.long))
        return OtherLayers(copies)

    def around(self, evicted: Sequence[Any]) -> list[Any]:
        """All layers in the order of the network, given those that are evicted."""
        remaining = iter(evicted)
        beside = [layer for layer in self.layers.values() if isinstance(layer, StateBeside)]
        found = []
        for number in range(len(self.layers) - len(beside) + len(evicted)):
            layer = self.layers.get(number)
            if layer is None:
                layer = next(remaining)
            elif isinstance(layer, StateBeside):
                layer.attending = next(remaining)
            found.append(layer)
        return found

    def alone(self) -> "OtherLayers":
        """The same without the evicted layers that were put beside them."""
        for layer in self.layers.values():
            if isinstance(layer, StateBeside):
                layer.attending = None
        return self


class StateBeside(LinearAttentionAndFullAttentionLayer):
    """A layer that keeps a state, with the layer of ours beside it that has its keys and values.

    Attributes:
        attending: our layer; None until there is one.
    """

    attending: AttendingLayer | None = None

    @classmethod
    def of(cls, layer: Any) -> Self:
        """With the state of a layer of transformers that keeps both."""
        beside = cls.__new__(cls)
        beside.__dict__.update(vars(layer))
        return beside

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._attending.update(key_states, value_states, *args, **kwargs)

    def get_seq_length(self) -> int:
        return int(self._attending.get_seq_length())

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._attending.get_mask_sizes(query_length)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        LinearAttentionLayer.reorder_cache(self, beam_idx)

    @property
    def _attending(self) -> AttendingLayer:
        assert self.attending is not None
        return self.attending


class RowCache(Cache):
    """A cache for rows that go on from one prompt.

    Attributes:
        evicted: its layers that are evicted, in order; `layers` has all of the network's.
        others: the others.
    """

    evicted: list[Any]
    others: OtherLayers

    def lay(self, evicted: Sequence[AttendingLayer], others: OtherLayers) -> None:
        """Set the layers; `others` have as many rows and may be written to."""
        self.evicted, self.others = list(evicted), others
        Cache.__init__(self, layers=others.around(self.evicted))

    def replace_evicted(self, change: Callable[[int, Any], Any]) -> None:
        """Put others in the place of the evicted layers; `change` is given the number of each among these."""
        self.lay([change(number, layer) for number, layer in enumerate(self.evicted)], self.others)

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows [kept] only."""
        for layer in self.evicted:
            layer.keep_rows(rows)
        with torch.no_grad():
            keep_rows(self.others.layers.values(), rows)


def keep_rows(layers: Any, rows: Tensor) -> None:
    """Let transformers' cache layers go on with these rows; a row may be taken more than once."""
    for layer in layers:
        # What beam search does to a cache: also where a layer has no `batch_select_indices`.
        layer.reorder_cache(rows.to(getattr(layer, "device", None) or rows.device))


def _tensors(layer: Any) -> Iterator[Tensor]:
    for value in vars(layer).values():
        found = value.values() if isinstance(value, dict) else [value]
        # A window's length, kept as a tensor without dimensions, is none of a text's.
        yield from (each for each in found if isinstance(each, Tensor) and each.ndim > 0)
