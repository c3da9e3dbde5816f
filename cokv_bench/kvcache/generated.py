"""What the rows of a batch generated themselves, and their attention to it."""

import torch
from torch import Tensor

from cokv_bench.models.form import Form


class OwnTokens:
    """Keys and values that the rows of a batch generated themselves, in a buffer that never moves."""

    def __init__(self, rows: int, kv_heads: int, reserve: int, like: Tensor) -> None:
        self.keys = like.new_empty(rows, kv_heads, reserve, like.shape[-1])
        self.values = like.new_empty(rows, kv_heads, reserve, like.shape[-1])
        self.count = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add [rows, kv_heads, new, dim] and return all so far, [rows, kv_heads, count, dim]."""
        end = self.count + key.shape[2]
        self.keys[:, :, self.count : end] = key
        self.values[:, :, self.count : end] = value
        self.count = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep_rows(self, rows: Tensor) -> None:
        self.keys = self.keys.index_select(0, rows.to(self.keys.device))
        self.values = self.values.index_select(0, rows.to(self.values.device))


def own_token_scores(grouped: Tensor, own_keys: Tensor, form: Form | float, new: int) -> Tensor:
    """Logits of new queries over the row's own tokens, causal among the new ones.

    Args:
        grouped: [rows, kv_heads, group * new, dim]; own_keys: [rows, kv_heads, count, dim], the new ones last.
        form: how dot products become weights, or just the factor on them.

    Returns:
        float32 [rows, kv_heads, group * new, count].
    """
    form = Form.of(form)
    # Widened first, see `products`; a row's own tokens are few.
    scores = torch.matmul(grouped.float(), own_keys.float().transpose(2, 3)).mul_(form.scaling)
    scores = form.cap(scores)
    if new > 1:
        count = own_keys.shape[2]
        later = torch.ones(new, count, dtype=torch.bool, device=scores.device).triu(count - new + 1)
        view = scores.view(*scores.shape[:2], -1, new, count)
        view.masked_fill_(later, float("-inf"))
    return scores
