"""Pyramid allocation: many tokens in the first layer, few in the last (PyramidKV, arXiv 2406.02069)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("pyramid", "more in early layers than in late ones (PyramidKV)", "Pyramid")

#: Steepnesses that `cokv-bench tune` tries, the published one first.
BETAS = (20, 2, 5, 10, 50)


def pyramid(
    layers: int,
    kv_heads: int,
    base: int,
    *,
    tokens: int,
    window: int,
    beta: int = 20,
    published_rounding: bool = False,
) -> Tensor:
    """Tokens beyond the window that fall linearly from the first layer to the last, equal inside a layer.

    The last layer gets base // beta and the first 2 * base minus that; where the first would exceed the prompt it
    gets all of it and the last rises as far. The schedule depends on this prompt alone.

    Args:
        layers, kv_heads: shape of the model.
        base: tokens beyond the window a head, on average.
        tokens: prompt length.
        window: observation window.
        beta: steepness; 1 is flat.
        published_rounding: the floored step of the published code, which spends more than the total at small
            budgets, and values above the prompt where base is. By default the total is base * layers * kv_heads
            exactly, or all tokens where that is less.

    Returns:
        int64 [layers, kv_heads].

    Raises:
        RequestError: base is negative or beta below 1.
    """
    if base < 0:
        raise RequestError(f"A budget of {base} tokens beyond the window cannot be allocated.")
    check_beta(beta)
    room = max(tokens - window, 0)
    schedule = _published(layers, base, room, beta) if published_rounding else _exact(layers, base, room, beta)
    return torch.from_numpy(schedule)[:, None].repeat(1, kv_heads)


@dataclass(frozen=True)
class Pyramid:
    """Allocates by `pyramid`."""

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"beta": BETAS}

    beta: int = 20
    published_rounding: bool = False

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window; `scores` play no part."""
        return self._table(prompt, prompt.layers, budget)

    def layer(self, prompt: "Prompt", layers: int, scores: Tensor, budget: int) -> Tensor:
        """int64 [kv_heads] beyond the window."""
        return self._table(prompt, layers, budget)[prompt.first_layer]

    def _table(self, prompt: "Prompt", layers: int, budget: int) -> Tensor:
        return pyramid(
            layers,
            prompt.kv_heads,
            budget - prompt.window,
            tokens=prompt.tokens,
            window=prompt.window,
            beta=self.beta,
            published_rounding=self.published_rounding,
        )


def check_beta(beta: int) -> None:
    """Refuse a steepness that is none. Raises `RequestError` where it is below 1."""
    if beta < 1:
        raise RequestError(f"beta of the pyramid must be 1 or more, not {beta}.")


def _ends(base: int, room: int, beta: int) -> tuple[int, int]:
    """Tokens per head of the first and of the last layer; their mean is `base`."""
    low = int(base // beta)
    high = 2 * base - low
    return (room, 2 * base - room) if high >= room else (high, low)


def _exact(layers: int, base: int, room: int, beta: int) -> NDArray[np.int64]:
    if base >= room:
        return np.full(layers, room, dtype=np.int64)
    high, low = _ends(base, room, beta)
    return apportion(np.linspace(high, low, layers), base * layers, room)


def _published(layers: int, base: int, room: int, beta: int) -> NDArray[np.int64]:
    if layers == 1:  # the published step divides by zero here
        return np.array([base], dtype=np.int64)
    high, low = _ends(base, room, beta)
    return high - np.arange(layers, dtype=np.int64) * ((high - low) // (layers - 1))
