"""Layers share by how widely and how changeably they look at the prompt (CAKE, arXiv 2503.12491)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError
from cokv_bench.policies.scorers.cake import window_moments

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("cake", "by how widely and changeably each layer looks (CAKE, arXiv 2503.12491)", "ByPreference")


@dataclass(frozen=True)
class ByPreference:
    """Gives each layer a share by H^(1 / tau1) * V^(1 / tau2), and its heads the same.

    H is the entropy of the window's attention over the tokens, and V its variance over the window's queries, both
    summed over the query heads of the layer. They are read from the prompt, whatever ranks the tokens. The published
    temperatures were tuned per model and budget; these are those of Llama-3.1-8B at 128 tokens.

    Attributes:
        tau1, tau2: temperatures of H and V, above 0; the larger, the more even the shares.
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "tau1": (1.6, 0.4, 0.8, 1.0, 2.0),
        "tau2": (0.6, 0.4, 1.0, 2.0, 4.0),
    }

    tau1: float = 1.6
    tau2: float = 0.6

    def __post_init__(self) -> None:
        for name, value in (("tau1", self.tau1), ("tau2", self.tau2)):
            if not value > 0:
                raise RequestError(f"The temperature {name} of the split 'cake' must be above 0, not {value}.")

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window; heads of a layer differ by a token at most."""
        kv_heads, room = scores[0].shape
        total = (budget - prompt.window) * len(scores) * kv_heads
        moments = window_moments(prompt)
        shares = preferences(
            [float(layer.entropy) for layer in moments],
            [float(layer.spread) for layer in moments],
            self.tau1,
            self.tau2,
        )
        return torch.from_numpy(apportion(np.repeat(shares[:, None], kv_heads, axis=1), total, room))


def preferences(entropies: Sequence[float], spreads: Sequence[float], tau1: float, tau2: float) -> NDArray[np.float64]:
    """H^(1 / tau1) * V^(1 / tau2) of each layer, divided by the largest; all 0 where none is above 0."""
    # By logarithms: a small temperature takes the powers out of what floats can hold.
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(entropies)) / tau1 + np.log(np.asarray(spreads)) / tau2
    best = logs.max()
    return np.exp(logs - best) if np.isfinite(best) else np.zeros_like(logs)
