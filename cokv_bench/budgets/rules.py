"""From what is known about heads to how many tokens each keeps: the rules of CoKV and HeadKV."""

import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cokv_bench.budget import check_above
from cokv_bench.budgets.apportion import apportion
from cokv_bench.errors import RequestError

#: Numbers of heads left with the window only that CoKV's authors choose from.
ALPHAS = (1, 5, 10, 15, 20, 30, 40)
#: The range over which HeadKV's authors vary beta.
BETAS = (1.005, 1.01, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True)
class Knob:
    """A number, at least 1, that a rule is told in addition to the budget.

    Attributes:
        kind: int or float.
        tried: what `cokv-bench tune` tries; None stands for what the head file says.
    """

    kind: type[int] | type[float]
    tried: tuple[float | None, ...]


def from_head_values(
    values: ArrayLike, budget: int, *, window: int, zeroed: int, published_rounding: bool = False
) -> NDArray[np.int64]:
    """CoKV budgets (arXiv 2502.17501): every head keeps the window, the rest follows the value above a floor.

    With b the `zeroed`-th smallest value and m = max(value - b, 0), a head keeps
    window + m / sum(m) * (budget - window) * layers * kv_heads tokens. Where no value is above b (all equal, or
    every head zeroed) the split is uniform. Nothing is capped at a prompt's length here: prompts do that, one by one.

    Args:
        values: head values [layers, kv_heads], finite; only their differences matter.
        budget: mean tokens per KV head, window included.
        window: the last prompt tokens that every head keeps.
        zeroed: alpha, how many of the smallest values set the floor and keep the window only, 1 to layers * kv_heads.
        published_rounding: truncate in float64 as the published code does, which leaves up to a token per head unspent.
            By default the total is exact (largest remainder; equal remainders favour the higher value).

    Returns:
        int64 [layers, kv_heads], window included; sums to budget * layers * kv_heads unless `published_rounding`.
        The two roundings differ by at most one token in any head, the default never being the smaller.

    Raises:
        RequestError: values of another shape or not finite, `zeroed` out of range, budget not above the window.
    """
    table = _table(values, "Head values")
    base = _base(budget, window)
    count = table.size
    if not 1 <= operator.index(zeroed) <= count:
        raise RequestError(f"alpha is {zeroed}; it must be 1 to {count}, the number of KV heads.")
    floor = np.sort(table, axis=None)[zeroed - 1]
    excess = np.maximum(table - floor, 0.0)
    if not excess.any():
        return np.full(table.shape, base + window, dtype=np.int64)
    if published_rounding:
        # The order of the operations is the published one: another may truncate to another integer.
        return window + (excess / excess.sum() * base * count).astype(np.int64)
    return window + _exact(excess / excess.max(), table, base * count)


def from_head_scores(
    scores: ArrayLike, budget: int, *, window: int, beta: float, kv_heads: int, published_rounding: bool = False
) -> NDArray[np.int64]:
    """HeadKV budgets (arXiv 2410.19258): a part of every head's budget is pooled and shared out by head score.

    With base = budget - window and pool = base // beta (a floor division, in floats, as published), a query head's
    capacity is share * pool * layers * heads + base - pool, share being its part of the sum of the scores. A KV head
    gets the mean over its query heads, which is the same as sharing by their averaged scores.

    Args:
        scores: query-head scores [layers, heads], not negative; all zero means equal shares.
        budget: mean tokens per KV head, window included.
        window: the last prompt tokens that every head keeps.
        beta: at least 1; how many times the base holds its pooled part. Near 1, nearly everything goes by score.
        kv_heads: KV heads a layer; a divisor of heads.
        published_rounding: round as published: half to even per head where every query head has its own cache
            (HeadKV's code), the floor of the group's mean in float32 where they share one (CoKV's code).
            By default the total is exact (largest remainder; equal remainders favour the higher score).

    Returns:
        int64 [layers, kv_heads], window included; sums to budget * layers * kv_heads unless `published_rounding`.
        The two roundings differ by at most one token in any head: both round one real number up or down.

    Raises:
        RequestError: scores of another shape, negative or not finite, beta below 1, kv_heads no divisor of
            heads, budget not above the window.
    """
    table = _table(scores, "Head scores")
    base = _base(budget, window)
    layers, heads = table.shape
    if (table < 0).any():
        raise RequestError(f"Head scores must not be negative; the smallest is {table.min()}.")
    if not 1 <= beta < np.inf:
        raise RequestError(f"beta is {beta}; HeadKV needs a finite number of at least 1.")
    if kv_heads < 1 or heads % kv_heads:
        raise RequestError(f"{heads} query heads cannot be grouped into {kv_heads} KV heads.")
    total = table.sum()
    share = table / total if total > 0 else np.full_like(table, 1 / table.size)
    pool = base // beta
    capacity = share * pool * layers * heads + (base - pool)
    grouped = capacity.reshape(layers, kv_heads, heads // kv_heads)  # [layers, kv_heads, group]
    if not published_rounding:
        averaged = table.reshape(grouped.shape).mean(axis=-1)
        return window + _exact(grouped.mean(axis=-1), averaged, base * layers * kv_heads)
    if kv_heads == heads:
        return window + np.rint(capacity).astype(np.int64)
    summed = np.add.accumulate(grouped.astype(np.float32), axis=-1)[..., -1]
    return window + np.floor(summed / np.float32(heads // kv_heads)).astype(np.int64)


def _table(values: ArrayLike, what: str) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise RequestError(f"{what} have the shape {list(table.shape)}; expected [layers, heads].")
    if not np.isfinite(table).all():
        layer, head = np.argwhere(~np.isfinite(table))[0]
        raise RequestError(f"{what} must be finite; layer {layer}, head {head} has {table[layer, head]}.")
    return table


def _base(budget: int, window: int) -> int:
    """Tokens per head beyond the window."""
    check_above(budget, window)
    return int(budget) - int(window)


def _exact(weights: NDArray[np.float64], rank: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Largest remainder over `weights`; of equal remainders the higher `rank` comes first, then the lower index.

    The rank is what the weights were made from: arithmetic merges numbers that differ by less than its precision,
    and still a higher one must not get fewer tokens.
    """
    order = np.argsort(-rank, axis=None, kind="stable")
    tokens = np.empty(weights.size, dtype=np.int64)
    tokens[order] = apportion(weights.ravel()[order], total, cap=total)
    return tokens.reshape(weights.shape)
