"""Layers share by the entropy of their scores, and the heads of each layer compete (LAVa, arXiv 2509.09754)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.policies.allocators.adaptive import SAFEGUARDS, check_safeguard, check_weights, compete

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("lava", "by the entropy of each layer, whose heads compete (LAVa, arXiv 2509.09754)", "ByEntropy")


@dataclass(frozen=True)
class ByEntropy:
    """Gives each layer a share by the normalised entropy of its scores, and splits it by competition in the layer.

    With p the scores of all heads of a layer divided by their sum, a layer's weight is -sum p log p / log(number of
    scores): a layer that looks everywhere gets much, one that looks at few tokens little.

    Attributes:
        safeguard: share of a layer's budget that is split evenly, in [0, 1].
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"safeguard": SAFEGUARDS}

    safeguard: float = 0.2

    def __post_init__(self) -> None:
        check_safeguard(self.safeguard)

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window.

        Raises:
            RequestError: a score is negative.
        """
        check_weights("lava", scores, "; name another split")
        kv_heads, room = scores[0].shape
        total = (budget - prompt.window) * len(scores) * kv_heads
        weights = [normalised_entropy(layer) for layer in scores]
        of_layers = apportion(weights, total, room * kv_heads).tolist()
        return torch.stack([compete(layer, own, self.safeguard) for layer, own in zip(scores, of_layers, strict=True)])


def normalised_entropy(scores: Tensor) -> float:
    """Entropy of scores divided by their sum, over that of equal ones: from 0 to 1; 0 where all are 0."""
    wide = scores.double().flatten()
    total = wide.sum()
    if wide.numel() < 2 or total == 0:
        return 0.0
    return float(torch.special.entr(wide / total).sum()) / math.log(wide.numel())
