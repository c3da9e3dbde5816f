"""One competition for all heads of a model, whatever their layer (Layer-DefensiveKV, arXiv 2510.13334)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.policies.allocators.adaptive import adaptive, check_safeguard, check_weights

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("global", "all heads of the model compete (Layer-DefensiveKV, arXiv 2510.13334)", "AllHeads")


@dataclass(frozen=True)
class AllHeads:
    """Allocates by one top-k over the scores of all heads of all layers, as `adaptive` does within a layer.

    Attributes:
        normalise: divide the scores of each layer by their sum, so that no layer wins by the size of its scores alone.
            The published method does not: its scores are attention times a share, and so of one size in every layer.
        safeguard: share of the budget that is split evenly, in [0, 1].
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "normalise": (True, False),
        "safeguard": (0.0, 0.1, 0.2, 0.3, 0.5),
    }

    normalise: bool = True
    safeguard: float = 0.0

    def __post_init__(self) -> None:
        check_safeguard(self.safeguard)

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window.

        Raises:
            RequestError: scores that are to be divided by their sum are negative.
        """
        if self.normalise:
            check_weights("global", scores, "; write global:normalise=false or name another split")
        layers = [self._scaled(layer) for layer in scores]
        counts = adaptive(torch.cat(layers), budget - prompt.window, safeguard=self.safeguard)
        return counts.view(len(layers), -1)

    def _scaled(self, scores: Tensor) -> Tensor:
        # In float64, so that division makes no ties, and on one device for all layers.
        wide = scores.cpu().double()
        total = wide.sum()
        return wide / total if self.normalise and total > 0 else wide
