"""Mean and covariance of a prompt's queries before rotary, gathered while it is prefilled."""

from dataclasses import dataclass

import torch
from torch import Tensor

#: The first tokens are attention sinks, whose queries are unlike all others; their moments are not gathered.
SKIPPED = 4


@dataclass(frozen=True)
class QueryMoments:
    """Of one layer's queries of a prompt, its first `SKIPPED` tokens left out where it has more.

    Attributes:
        mean: float32 [heads, dim].
        covariance: float32 [heads, dim, dim].
    """

    mean: Tensor
    covariance: Tensor


class MomentSums:
    """The sums that moments are made of, chunk by chunk."""

    def __init__(self, tokens: int) -> None:
        """`tokens`: of the whole prompt."""
        self._skipped = SKIPPED if tokens > SKIPPED else 0
        self._seen = self._count = 0
        self._first = self._sums = self._products = torch.empty(0)

    def add(self, rotated: Tensor, cosines: Tensor, sines: Tensor) -> None:
        """Add the next queries [heads, new, dim], rotary applied, with its factors [new, rotary dim]."""
        left_out = min(max(self._skipped - self._seen, 0), rotated.shape[1])
        self._seen += rotated.shape[1]
        queries = unrotated(rotated, cosines, sines)[:, left_out:]
        if queries.shape[1] == 0:
            return
        if self._count == 0:
            # Centred by a query, so that a large mean does not swallow the covariance in float32.
            self._first = queries[:, :1].clone()
            self._sums = torch.zeros_like(self._first[:, 0])
            self._products = self._sums[:, :, None] * self._sums[:, None]
        centred = queries - self._first
        self._count += queries.shape[1]
        self._sums += centred.sum(1)
        self._products += centred.transpose(1, 2) @ centred

    def moments(self) -> QueryMoments:
        """Of all that was added."""
        mean = self._sums / self._count
        return QueryMoments(self._first[:, 0] + mean, self._products / self._count - mean[:, :, None] * mean[:, None])


def unrotated(rotated: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """What rotary was applied to, float32 [heads, new, dim].

    Args:
        rotated: [heads, new, dim]; where the factors are of fewer dimensions, the others were left as they are.
        cosines, sines: [new, rotary dim], the halves alike.
    """
    dim = cosines.shape[-1]
    turned, rest = rotated[..., :dim].float(), rotated[..., dim:].float()
    cosines, sines = cosines.float(), sines.float()
    # Some scalings stretch as well as turn.
    back = (turned * cosines - _rotated_half(turned) * sines) / (cosines.square() + sines.square())
    return torch.cat([back, rest], dim=-1)


def _rotated_half(vectors: Tensor) -> Tensor:
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
