"""From log-shares to tokens, in a way that can be differentiated."""

import torch
from torch import Tensor


def split(log_shares: Tensor, total: int, room: int) -> Tensor:
    """Real-valued tokens of each head: min(room, scale * exp(log_shares)), which sum to the total.

    Args:
        log_shares: float [layers, kv_heads]; a constant added to all plays no part.
        total: tokens to give out, at most room * heads.
        room: the most that one head can hold.
    """
    with torch.no_grad():
        full = torch.zeros_like(log_shares, dtype=torch.bool)
        while True:
            over = (_open_heads(log_shares, total, room, full) >= room) & ~full
            if not over.any():
                break
            full |= over
    if full.all():
        # All is kept whatever the shares are: their derivative is 0, and not missing.
        return float(room) + 0 * log_shares
    return torch.where(full, float(room), _open_heads(log_shares, total, room, full))


def _open_heads(log_shares: Tensor, total: int, room: int, full: Tensor) -> Tensor:
    """What heads that are not full share of what the full ones leave."""
    left = total - room * int(full.sum())
    shares = torch.softmax(log_shares.masked_fill(full, float("-inf")).flatten(), dim=0)
    return shares.view_as(log_shares) * left
