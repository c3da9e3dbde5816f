"""A compact cache that holds only what a selection keeps: one flat buffer a layer, heads of unequal length."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from cokv_bench.kvcache.own import OwnTokens, own_token_scores
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection
from cokv_bench.models.attention import AttendingLayer


class RaggedCache(Cache):
    """The kept keys and values of each selection (a row each), copied out of the prompt; the rest can be freed.

    Rotary positions stay as they were, and new tokens continue after the prompt's last position.
    """

    def __init__(self, prompt: Prompt, selections: Sequence[Selection], reserve: int) -> None:
        """`reserve`: the most tokens that a row will add."""
        super().__init__(
            layers=[
                _RaggedLayer(prompt.keys[index], prompt.values[index], [s.mask(index) for s in selections], reserve)
                for index in range(prompt.layers)
            ]
        )

    @property
    def nbytes(self) -> int:
        """Bytes held for the prompt, generated tokens not counted."""
        return sum(layer.flat_keys.nbytes + layer.flat_values.nbytes for layer in self.layers)

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows [kept] only."""
        for layer in self.layers:
            layer.keep_rows(rows)


class _RaggedLayer(AttendingLayer):
    def __init__(self, keys: Tensor, values: Tensor, masks: Sequence[Tensor], reserve: int) -> None:
        super().__init__()
        kept = torch.stack(list(masks)).to(keys.device)  # [rows, kv_heads, tokens]
        rows, self.kv_heads, self.tokens = kept.shape
        _, head, position = kept.nonzero(as_tuple=True)
        self.flat_keys, self.flat_values = keys[head, position], values[head, position]
        self.lengths = kept.sum(-1).tolist()
        self.own = OwnTokens(rows, self.kv_heads, reserve, keys)

    def get_seq_length(self) -> int:
        return self.tokens + self.own.count

    def keep_rows(self, rows: Tensor) -> None:
        self.own.keep_rows(rows)
        keys, values = self._segments()
        wanted = rows.tolist()
        self.flat_keys = torch.cat([keys[row * self.kv_heads + h] for row in wanted for h in range(self.kv_heads)])
        self.flat_values = torch.cat([values[row * self.kv_heads + h] for row in wanted for h in range(self.kv_heads)])
        self.lengths = [self.lengths[row] for row in wanted]

    def _segments(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Views [length, dim] a row and head, rows outermost."""
        lengths = [length for row in self.lengths for length in row]
        return self.flat_keys.split(lengths), self.flat_values.split(lengths)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        rows, heads, new, dim = query.shape
        own_keys, own_values = self.own.append(key, value)
        grouped = query.reshape(rows, self.kv_heads, -1, dim)
        own_scores = own_token_scores(grouped, own_keys, scaling, new)
        keys, values = self._segments()
        out = torch.empty_like(grouped)
        for row in range(rows):
            for head in range(self.kv_heads):
                segment = row * self.kv_heads + head
                kept = torch.matmul(grouped[row, head], keys[segment].T).float().mul_(scaling)
                weights = torch.softmax(torch.cat([kept, own_scores[row, head]], dim=-1), dim=-1).to(query.dtype)
                length = kept.shape[-1]
                out[row, head] = weights[:, :length] @ values[segment] + weights[:, length:] @ own_values[row, head]
        return out.view(rows, heads, new, dim).transpose(1, 2)
