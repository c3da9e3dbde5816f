"""Layers of a hybrid network that are not evicted: they slide, chunk or keep a state, in transformers' own caches."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.model import Model


@dataclass(frozen=True, eq=False)
class OtherLayers:
    """What the layers that are not evicted hold of a text; nothing for most networks.

    Attributes:
        layers: transformers' cache layers by their number in the network, of one row.
    """

    layers: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, model: Model) -> "OtherLayers":
        """Before any text."""
        evicted = set(model.evicted_layers)
        fresh = DynamicCache(config=model.config).layers
        return cls({number: layer for number, layer in enumerate(fresh) if number not in evicted})

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
        total = len(self.layers) + len(evicted)
        return [self.layers[number] if number in self.layers else next(remaining) for number in range(total)]


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
