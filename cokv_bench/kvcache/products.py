"""Dot products of queries and keys in float32, whatever the model's dtype.

In 16 bits a product overflows or loses what tells two keys apart before it can be scaled: checkpoints with large key
biases reach raw products of 67500, which is beyond float16. Scaling the queries first keeps the products finite, but
not precise; fused attention kernels add in float32, and so does this.
"""

import torch
from torch import Tensor

# Bytes of keys that are widened at a time, so that they stay in the cache of a CPU.
_PIECE_BYTES = 2**20


def scaled_products(queries: Tensor, keys: Tensor, scaling: float, result: Tensor) -> None:
    """Scaled dot products: [heads, queries, dim] by [heads, tokens, dim] into float32 [heads, queries, tokens].

    No float32 copy of all keys is made.
    """
    if keys.dtype != torch.float32 and keys.device.type == "cuda":
        torch.mul(torch.bmm(queries, keys.transpose(1, 2), out_dtype=torch.float32), scaling, out=result)
        return
    tokens = keys.shape[1]
    fitting = max(1, _PIECE_BYTES // (4 * keys.shape[0] * keys.shape[2]))
    # A head may keep no token at all.
    piece = max(1, tokens) if keys.dtype == torch.float32 else fitting
    wide = queries.float()
    for start in range(0, tokens, piece):
        part = keys[:, start : start + piece].float().transpose(1, 2)
        result[..., start : start + piece].baddbmm_(wide, part, beta=0, alpha=scaling)
