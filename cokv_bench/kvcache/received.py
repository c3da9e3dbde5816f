"""Attention that the keys of a text receive, in blocks of queries whose scores exist at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cokv_bench.kvcache.products import scaled_products
from cokv_bench.models.form import Form

# Scores that exist at a time when attention is summed: on a CPU few enough to stay in its cache.
_BLOCK_BYTES = 4 * 2**20
_DEVICE_BLOCK_BYTES = 256 * 2**20


def received_attention(query: Tensor, keys: Tensor, form: Form | float) -> Tensor:
    """Attention that each key receives from the given queries, the last ones of the text.

    Computed in blocks of queries: the scores of one block exist at a time (one query at least).

    Args:
        query: [heads, new, dim]; keys: [kv_heads, tokens, dim] with the new tokens last.
        form: how dot products become weights, or just the factor on them.

    Returns:
        float32 [kv_heads, tokens]: sum over the queries, mean over the query heads of a KV head's group.
    """
    total = query.new_zeros(keys.shape[:2], dtype=torch.float32)
    for scores in attention_blocks(query, keys, form):
        total[:, : scores.shape[2]] += scores.sum(dim=1)
    return total.div_(query.shape[0] // keys.shape[0])


def attention_blocks(query: Tensor, keys: Tensor, form: Form | float) -> Iterator[Tensor]:
    """Attention of the last tokens of a text to all of it, in blocks of queries; each is good until the next.

    Args:
        query: [heads, new, dim]; keys: [kv_heads, tokens, dim] with the new tokens last.
        form: how dot products become weights, or just the factor on them.

    Yields:
        float32 [kv_heads, group * queries, tokens up to the block's last query].
    """
    form = Form.of(form)
    heads, new, dim = query.shape
    kv_heads, tokens, _ = keys.shape
    room = _BLOCK_BYTES if query.device.type == "cpu" else _DEVICE_BLOCK_BYTES
    block = max(1, min(new, room // (4 * heads * tokens)))
    for start in range(0, new, block):
        part = query[:, start : start + block]
        # Keys after the block's last query would only be masked, so they are not read.
        rows, end = part.shape[1], tokens - new + min(new, start + block)
        scores = query.new_empty(kv_heads, heads // kv_heads * rows, end, dtype=torch.float32)
        scaled_products(part.reshape(kv_heads, -1, dim), keys[:, :end], form.scaling, scores)
        scores = form.cap(scores)
        later = torch.ones(rows, rows, dtype=torch.bool, device=query.device).triu(1)
        scores.view(heads, rows, end)[:, :, end - rows :].masked_fill_(later, float("-inf"))
        if form.plain:
            torch.softmax(scores, dim=-1, out=scores)
        else:
            scores = form.softmax(scores.view(kv_heads, -1, rows, end)).flatten(1, 2)
        yield scores
