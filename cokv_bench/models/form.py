"""How a layer makes attention weights of dot products: the scaling, and what some architectures do beside it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Form:
    """The way from dot products to attention weights in one layer.

    Attributes:
        scaling: factor on the dot products.
        softcap: c where logits become c * tanh(logits / c) (Gemma 2); None for none.
        sinks: [heads], the logit of a place beside the tokens that takes its share of a head's attention and gives
            nothing (gpt-oss); None for none.
    """

    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None

    @classmethod
    def of(cls, form: "Form | float") -> "Form":
        """The form that scales by a number and does nothing else, or the form itself."""
        return form if isinstance(form, Form) else cls(form)

    @property
    def plain(self) -> bool:
        """Whether attention is the softmax of scaled dot products, as fused kernels compute it."""
        return self.softcap is None and self.sinks is None

    def cap(self, scaled: Tensor) -> Tensor:
        """Logits of scaled dot products, before anything is masked."""
        return scaled if self.softcap is None else (scaled / self.softcap).tanh() * self.softcap

    def sink_logits(self, kv_heads: int, queries: int) -> Tensor | None:
        """float32 [kv_heads, queries, 1]: each query's logit of the sink, None where there is none.

        Args:
            queries: of a KV head, those of its first query head first.
        """
        if self.sinks is None:
            return None
        grouped = self.sinks.float().view(kv_heads, -1)
        return grouped.repeat_interleave(queries // grouped.shape[1], dim=1)[:, :, None]

    def softmax(self, logits: Tensor) -> Tensor:
        """Attention weights of logits [kv_heads, group, queries, tokens]; a sink's share is left out of them."""
        if self.sinks is None:
            return logits.softmax(dim=-1)
        column = self.sinks.float().to(logits.device).view(*logits.shape[:2], 1, 1).expand(*logits.shape[:3], 1)
        return torch.cat([logits, column], dim=-1).softmax(dim=-1)[..., :-1]
