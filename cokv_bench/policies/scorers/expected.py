"""Expected attention of queries that are yet to come (Expected Attention, arXiv 2510.00636)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.kvcache.moments import QueryMoments
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = (
    "expected",
    "the attention that future queries are expected to pay, times the value's length (arXiv 2510.00636)",
    "ExpectedAttention",
)


@dataclass(frozen=True)
class ExpectedAttention:
    """Scores tokens by the mean attention of queries that are distributed as the prompt's own were.

    Queries before rotary are taken for normal, with the mean and covariance of the prompt's; the mean rotation of the
    next positions turns them. The expectation of exp(q·k/√d) is then exp(k·μ/√d + k·Σ·k/2d), softmaxed over the tokens
    after the sinks, averaged over the group, and multiplied with the length of the token's value. As published, the
    moments leave out the prompt's first four tokens.

    Attributes:
        sinks: first tokens that come before all others.
        future: positions after the prompt over which the rotation is averaged.
        epsilon: is added to the attention before it is multiplied; 0 as published, and 0.01 or 0.02 where published
            configurations let heads compete.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"query_moments"})
    sinks_first: ClassVar[bool] = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"epsilon": (0.0, 0.01, 0.02)}

    sinks: int = 4
    future: int = 512
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if self.sinks < 0:
            raise RequestError(f"The number of sink tokens must be 0 or more, not {self.sinks}.")
        if self.future < 1:
            raise RequestError(f"The rotation is averaged over at least one position, not {self.future}.")
        if self.epsilon < 0:
            raise RequestError(f"What is added to the attention must be 0 or more, not {self.epsilon}.")

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt.

        Raises:
            RequestError: the prompt was prefilled without the moments, or does not know its model.
        """
        if prompt.query_moments is None:
            raise RequestError(
                "This prompt holds no moments of its queries, which Expected Attention scores by; prefill it with "
                "query_moments=True."
            )
        turn = self._rotation(prompt)
        before = max(prompt.tokens - prompt.window, 0)
        return [
            self._layer(keys, values, moments, turn, prompt.factor)[:, :before]
            for keys, values, moments in zip(prompt.keys, prompt.values, prompt.query_moments, strict=True)
        ]

    def _rotation(self, prompt: "Prompt") -> Tensor:
        """The mean rotation of the positions that follow, float32 [dim, dim]; it is applied from the left."""
        # On first use, here and below: rankings are listed without transformers.
        from cokv_bench.models.rotary import rotary_factors

        model = prompt.reader("Ranking 'expected'")
        # Beyond the context, or where rotary factors change (longrope), no query ever asks this cache.
        end = min(prompt.tokens + self.future, model.context, prompt.read_again_after or model.context)
        start = min(prompt.tokens, end - 1)
        device = prompt.keys[0].device
        positions = torch.arange(start, end, device=device)[None]
        decoder = model.decoder
        like = torch.empty(0, device=device)
        cosines, sines = rotary_factors(decoder, like, positions, [max(prompt.length, end)])
        return mean_rotation(cosines[0], sines[0], prompt.keys[0].shape[-1])

    def _layer(self, keys: Tensor, values: Tensor, moments: "QueryMoments", turn: Tensor, factor: float) -> Tensor:
        """float32 [kv_heads, tokens]."""
        kv_heads, turn = keys.shape[0], turn.to(keys.device)
        later = keys[:, self.sinks :].float()
        mean = (moments.mean @ turn.T).unflatten(0, (kv_heads, -1))  # [kv_heads, group, dim]
        covariance = (turn @ moments.covariance @ turn.T).unflatten(0, (kv_heads, -1))
        attention = torch.zeros_like(later[..., 0])
        # A query head at a time, so that no more than another copy of the keys exists.
        for head in range(mean.shape[1]):
            logits = (later @ mean[:, head, :, None]).squeeze(-1) * factor
            logits += (later @ covariance[:, head] * later).sum(dim=-1) * (factor**2 / 2)
            attention += logits.softmax(dim=-1)
        scores = (attention / mean.shape[1] + self.epsilon) * values[:, self.sinks :].float().norm(dim=-1)
        # As high as the best token, which comes later and so after them, and no higher: splits add scores up.
        best = scores.max() if scores.numel() else scores.new_ones(())
        return torch.cat([best.expand(kv_heads, min(self.sinks, keys.shape[1])), scores], dim=1)


def mean_rotation(cosines: Tensor, sines: Tensor, dim: int) -> Tensor:
    """The mean of rotary's matrices over positions, float32 [dim, dim]; dimensions beyond theirs stay as they are.

    Args:
        cosines, sines: [positions, rotary dim], the halves alike.
    """
    rotary = cosines.shape[-1]
    one = torch.eye(rotary, device=cosines.device)
    first, second = one.chunk(2, dim=0)
    turn = torch.eye(dim, device=cosines.device)
    half_turned = torch.cat([-second, first])
    turn[:rotary, :rotary] = cosines.float().mean(dim=0)[:, None] * one + sines.float().mean(0)[:, None] * half_turned
    return turn
