"""What the kernels of `triton_step` compute, in plain PyTorch and as transformers computes it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def add_norm(hidden: Tensor, more: Tensor | None, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    total = hidden if more is None else hidden + more
    wide = total.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return total, (normed * weight.float()).to(hidden.dtype)


def rotate_and_store(
    mixed: Tensor,
    cosines: Tensor,
    sines: Tensor,
    norms: tuple[Tensor, Tensor, float] | None,
    keys: Tensor,
    values: Tensor,
    own_starts: Tensor,
    own_counts: Tensor,
) -> Tensor:
    dim, kv_heads = keys.shape[1], own_starts.shape[1]
    heads = mixed.view(len(mixed), -1, dim)
    query, key, value = heads.split([heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads], dim=1)
    if norms is not None:
        query, key = (
            add_norm(part, None, weight, norms[2])[1] for part, weight in zip((query, key), norms[:2], strict=True)
        )

    def turn(part: Tensor) -> Tensor:
        first, second = part.float().chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return (part.float() * cosines.float()[:, None] + turned * sines.float()[:, None]).to(part.dtype)

    slots = (own_starts + own_counts[:, None] - 1).flatten().long()
    keys[slots], values[slots] = turn(key).flatten(0, 1), value.flatten(0, 1)
    return turn(query)


def gate(both: Tensor) -> Tensor:
    first, second = both.float().chunk(2, dim=-1)
    return (F.silu(first) * second).to(both.dtype)
