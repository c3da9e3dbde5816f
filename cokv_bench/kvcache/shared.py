"""Decoding many selections over one prompt cache: a row a selection, the dropped positions masked inside attention."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection
from cokv_bench.models.attention import AttendingLayer


class SharedCache(Cache):
    """Rows that read the same prompt keys and values; only generated tokens are a row's own.

    The prompt's KV exists once however many rows there are. What a row has dropped is masked, so this cache is the
    fast way to evaluate selections, not a way to save memory; `RaggedCache` is.
    """

    def __init__(self, prompt: Prompt, selections: Sequence[Selection], reserve: int) -> None:
        """`reserve`: the most tokens that a row will add."""
        kept = torch.stack([selection.kept for selection in selections])
        layers = []
        for index in range(prompt.layers):
            keys, values = prompt.keys[index], prompt.values[index]
            mask = kept[:, index]
            # [kv_heads, rows, 1, tokens]; None where no row drops anything, which saves the masking.
            dropped = None if bool(mask.all()) else (~mask).transpose(0, 1)[:, :, None].contiguous().to(keys.device)
            layers.append(_SharedLayer(keys, values, dropped, len(selections), reserve))
        super().__init__(layers=layers)

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows [kept] only."""
        for layer in self.layers:
            layer.keep_rows(rows)


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


class _SharedLayer(AttendingLayer):
    def __init__(self, keys: Tensor, values: Tensor, dropped: Tensor | None, rows: int, reserve: int) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values, self.dropped = keys, values, dropped
        self.own = OwnTokens(rows, keys.shape[0], reserve, keys)

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[1] + self.own.count

    def keep_rows(self, rows: Tensor) -> None:
        self.own.keep_rows(rows)
        if self.dropped is not None:
            self.dropped = self.dropped.index_select(1, rows.to(self.dropped.device))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        rows, heads, new, dim = query.shape
        kv_heads, tokens, _ = self.prompt_keys.shape
        group = heads // kv_heads
        own_keys, own_values = self.own.append(key, value)
        # [rows, kv_heads, group * new, dim]: the queries of a KV head are the rows of one matrix product.
        grouped = query.reshape(rows, kv_heads, group * new, dim)
        flat = grouped.transpose(0, 1).reshape(kv_heads, rows * group * new, dim)
        prompt_scores = torch.bmm(flat, self.prompt_keys.transpose(1, 2)).float().mul_(scaling)
        prompt_scores = prompt_scores.view(kv_heads, rows, group * new, tokens)
        if self.dropped is not None:
            prompt_scores.masked_fill_(self.dropped, float("-inf"))
        own_scores = own_token_scores(grouped, own_keys, scaling, new).transpose(0, 1)
        peak = torch.maximum(prompt_scores.amax(-1), own_scores.amax(-1))[..., None]
        prompt_weights = prompt_scores.sub_(peak).exp_()
        own_weights = own_scores.sub(peak).exp_()
        mass = prompt_weights.sum(-1, keepdim=True) + own_weights.sum(-1, keepdim=True)
        shape = (kv_heads, rows * group * new, tokens)
        out = torch.bmm(prompt_weights.view(shape).to(query.dtype), self.prompt_values).float()
        out = out.view(kv_heads, rows, group * new, dim)
        out += torch.matmul(own_weights.to(query.dtype), own_values.transpose(0, 1)).float()
        out = (out / mass).to(query.dtype).transpose(0, 1).reshape(rows, heads, new, dim)
        return out.transpose(1, 2)


def own_token_scores(grouped: Tensor, own_keys: Tensor, scaling: float, new: int) -> Tensor:
    """Scores of new queries over the row's own tokens, causal among the new ones.

    Args:
        grouped: [rows, kv_heads, group * new, dim]; own_keys: [rows, kv_heads, count, dim], the new ones last.

    Returns:
        float32 [rows, kv_heads, group * new, count].
    """
    scores = torch.matmul(grouped, own_keys.transpose(2, 3)).float().mul_(scaling)
    if new > 1:
        count = own_keys.shape[2]
        later = torch.ones(new, count, dtype=torch.bool, device=scores.device).triu(count - new + 1)
        view = scores.view(*scores.shape[:2], -1, new, count)
        view.masked_fill_(later, float("-inf"))
    return scores
