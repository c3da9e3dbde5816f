"""Ada-Pyramid allocation: a pyramid over the layers, adaptive inside each (Ada-KV, arXiv 2407.11550)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.policies.allocators.adaptive import SAFEGUARDS, adaptive, check_safeguard
from cokv_bench.policies.allocators.pyramid import BETAS, Pyramid, check_beta

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("ada-pyramid", "a pyramid over layers, whose heads compete (Ada-KV)", "AdaPyramid")


@dataclass(frozen=True)
class AdaPyramid:
    """Gives each layer its total by `pyramid` and splits it among the layer's heads by `adaptive`."""

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"beta": BETAS, "safeguard": SAFEGUARDS}

    safeguard: float = 0.2
    beta: int = 20
    published_rounding: bool = False

    def __post_init__(self) -> None:
        check_safeguard(self.safeguard)
        check_beta(self.beta)

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window."""
        per_layer = Pyramid(self.beta, self.published_rounding)(prompt, scores, budget)[:, 0].tolist()
        return torch.stack([self._split(layer, base) for layer, base in zip(scores, per_layer, strict=True)])

    def layer(self, prompt: "Prompt", layers: int, scores: Tensor, budget: int) -> Tensor:
        """int64 [kv_heads] beyond the window."""
        base = Pyramid(self.beta, self.published_rounding).layer(prompt, layers, scores, budget)[0]
        return self._split(scores, int(base))

    def _split(self, scores: Tensor, base: int) -> Tensor:
        return adaptive(scores, base, safeguard=self.safeguard, published_rounding=self.published_rounding)
