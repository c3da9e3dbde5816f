"""Whole tokens from real-valued shares, with nothing lost and no head above its cap."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cokv_bench.errors import RequestError

#: Parts of a token that differ by less than this are equal: 10**-6. Doubles hold it for up to 10**8 tokens per head,
#: and fewer than 10**6 heads cannot gain or lose a token by it.
_DECIMALS = 6


def apportion(shares: ArrayLike, total: int, cap: int) -> NDArray[np.int64]:
    """Split `total` tokens by `shares` into integers of at most `cap` each (largest-remainder method).

    A head whose share exceeds the cap is filled, and its surplus goes to the others in proportion to their shares;
    heads with no share at all receive tokens, evenly, only when every other head is full. Remainders within a
    millionth of a token are equal, and equal remainders favour the lower index, so the result is a function of its
    arguments alone.

    Args:
        shares: non-negative weights of any shape; only their ratios matter. All zero means equal shares.
        total: tokens to give out, at least 0 and at most `cap` times the number of heads.
        cap: the most that one head can hold.

    Returns:
        int64 array in the shape of `shares` that sums to `total`.

    Raises:
        RequestError: a share is negative or not finite, or the total does not fit.
    """
    weights = np.asarray(shares, dtype=np.float64)
    flat = weights.ravel()
    if not np.isfinite(flat).all() or (flat < 0).any():
        raise RequestError("Budget shares must be finite and not negative.")
    if not 0 <= total <= cap * flat.size:
        raise RequestError(f"{total} tokens do not fit into {flat.size} heads of at most {cap} tokens each.")
    ideal = _fill(flat, float(total), float(cap))
    # Floats leave dust that must not decide which head gets a token: neither in the split nor in what subtracting the
    # whole tokens makes of it, for 9.6 - 9 is more than 25.6 - 25.
    ideal = np.round(ideal, _DECIMALS)
    tokens = np.floor(ideal).astype(np.int64)
    left = total - int(tokens.sum())
    remainder = np.where(tokens < cap, np.round(ideal - tokens, _DECIMALS), -1.0)
    order = np.argsort(-remainder, kind="stable")
    tokens[order[:left]] += 1
    return tokens.reshape(weights.shape)


def _fill(shares: NDArray[np.float64], total: float, cap: float) -> NDArray[np.float64]:
    """Real-valued split min(cap, scale * share) that sums to `total`; heads without a share come last."""
    result = np.zeros_like(shares)
    open_heads = shares > 0
    if not open_heads.any():
        return np.full_like(shares, total / shares.size)
    left = total
    while open_heads.any() and left > 0:
        offer = shares * (left / shares[open_heads].sum())
        full = open_heads & (offer >= cap)
        if not full.any():
            result[open_heads] = offer[open_heads]
            return result
        result[full] = cap
        left -= cap * int(full.sum())
        open_heads &= ~full
    if left > 0:
        rest = result == 0
        result[rest] = left / int(rest.sum())
    return result
