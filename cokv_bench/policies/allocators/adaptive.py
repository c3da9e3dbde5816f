"""Adaptive allocation: the heads of a layer compete for its tokens (Ada-KV Algorithm 1, arXiv 2407.11550)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("adaptive", "the heads of each layer compete (Ada-KV)", "Adaptive")

#: Shares that `cokv-bench tune` tries, the published one first.
SAFEGUARDS = (0.2, 0.0, 0.1, 0.3, 0.5)


def adaptive(scores: Tensor, base: int, *, safeguard: float = 0.2, published_rounding: bool = False) -> Tensor:
    """Tokens beyond the window for each head of one layer.

    A head earns a token for each of its scores among the best base * kv_heads of the layer, and gets
    (1 - safeguard) of what it earned plus safeguard * base. Without safeguard no other split of the same total
    keeps more of the scores.

    Args:
        scores: [kv_heads, tokens - window], pooled. Equal scores: the lower position first, then the lower head.
        base: tokens beyond the window a head, on average.
        safeguard: share of the budget that is split evenly, in [0, 1].
        published_rounding: round each head on its own as the published code does, so that the total drifts. By
            default it is base * kv_heads exactly, or all tokens where that is less.

    Returns:
        int64 [kv_heads].

    Raises:
        RequestError: scores are not two-dimensional, base is negative or the safeguard outside [0, 1].
    """
    if scores.ndim != 2:
        raise RequestError(f"Adaptive allocation takes [kv_heads, tokens - window]; given {tuple(scores.shape)}.")
    if base < 0:
        raise RequestError(f"A budget of {base} tokens beyond the window cannot be allocated.")
    check_safeguard(safeguard)
    kv_heads, room = scores.shape
    if base > room:
        return torch.full((kv_heads,), room, dtype=torch.int64)
    if published_rounding:
        hits = _hits(scores, base * kv_heads).cpu()
        # Half to even and in float32, as torch rounds an int tensor times a Python float.
        return torch.round(hits * (1 - safeguard) + int(base * safeguard)).to(torch.int64)
    return compete(scores, base * kv_heads, safeguard)


def compete(scores: Tensor, total: int, safeguard: float) -> Tensor:
    """As `adaptive`, for any total of at most heads * (tokens - window); it is split exactly: int64 [kv_heads]."""
    kv_heads, room = scores.shape
    shares = (1 - safeguard) * _hits(scores, total).cpu().double() + safeguard * total / kv_heads
    return torch.from_numpy(apportion(shares.numpy(), total, room))


@dataclass(frozen=True)
class Adaptive:
    """Allocates by `adaptive`, layer by layer."""

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"safeguard": SAFEGUARDS}

    safeguard: float = 0.2
    published_rounding: bool = False

    def __post_init__(self) -> None:
        check_safeguard(self.safeguard)

    def __call__(self, prompt: "Prompt", scores: Sequence[Tensor], budget: int) -> Tensor:
        """int64 [layers, kv_heads] beyond the window; every layer gets the same total."""
        return torch.stack([self.layer(prompt, prompt.layers, layer, budget) for layer in scores])

    def layer(self, prompt: "Prompt", layers: int, scores: Tensor, budget: int) -> Tensor:
        """int64 [kv_heads] beyond the window."""
        return adaptive(
            scores, budget - prompt.window, safeguard=self.safeguard, published_rounding=self.published_rounding
        )


def check_safeguard(safeguard: float) -> None:
    """Refuse a share that is none.

    Raises:
        RequestError: it is outside [0, 1].
    """
    if not 0 <= safeguard <= 1:
        raise RequestError(f"The safeguard is a share in [0, 1], not {safeguard}.")


def check_weights(split: str, scores: Sequence[Tensor], fix: str) -> None:
    """Refuse scores that are no weights.

    Args:
        fix: what to do instead, after the sentence.

    Raises:
        RequestError: a score is negative.
    """
    if any(bool((layer < 0).any()) for layer in scores):
        raise RequestError(
            f"The split '{split}' takes scores of 0 or more as weights, and this ranking gives negative ones{fix}."
        )


def _hits(scores: Tensor, top: int) -> Tensor:
    """How many of the `top` best scores of a layer each head has: int64 [kv_heads]."""
    kv_heads = scores.shape[0]
    if top == 0:
        return torch.zeros(kv_heads, dtype=torch.int64)
    cut = scores.flatten().topk(top, sorted=False).values.min()
    hits = (scores > cut).sum(dim=1)
    # At the cut many pooled scores are equal; position-major order lets no head win them by its index alone.
    tied_heads = (scores == cut).T.flatten().nonzero().flatten() % kv_heads
    left = top - int(hits.sum())
    return hits + tied_heads[:left].bincount(minlength=kv_heads)
