"""Paired tests by sign flips: each comparison alone, and a family of comparisons together."""

from collections.abc import Iterator
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Differences with a corrected p-value of at least this are called noise.
LEVEL = 0.05
#: Up to so many examples every sign pattern is counted; of more, patterns are drawn.
_COUNTED = 20
#: Up to so many examples with a difference, one comparison is tested exactly: half of them at a time have 2^12 sums.
_EXACT = 24
_BLOCK = 2**14
_DRAWN_AT_ONCE = 2**17
#: The most that are drawn, unless told otherwise.
DRAWN = 2**20
#: Statistics of so many patterns and comparisons are in memory at once; a power of two, so that parts of blocks are.
_AT_ONCE = 2**24
#: A verdict hangs on the draw where the p-value is within so many standard errors of the level.
_CLEAR = 3.0
#: Statistics are of order 1 and single precision; sign patterns whose sums are equal must count as equal.
_TOLERANCE = 1e-4


class Outcome(NamedTuple):
    """The outcome of a family, a number per comparison.

    Attributes:
        p_value: two-sided, of the comparison alone.
        adjusted: corrected for the family.
        error: Monte Carlo standard error of `adjusted`; 0 where every sign pattern was counted.
        least: the least `adjusted` that so many examples can give, if all of them point the same way by as much.
    """

    p_value: Array
    adjusted: Array
    error: Array
    least: Array


def family_test(shares: Array, sizes: NDArray[np.int64], seed: int, *, drawn_at_most: int = DRAWN) -> Outcome:
    """Test a family of comparisons jointly (Westfall and Young's step-down maximum).

    If methods are alike, an example's differences could as well all have the other sign. The same flips of the same
    examples therefore go to all comparisons, which keeps how they depend on each other: the correction is for as many
    comparisons as the family really has. The chance that any difference of the family is found where there is none is
    the level. A comparison's statistic is its sum over its root sum of squares, which has variance 1 under the flips.

    Args:
        shares: what each example adds to each difference, [examples, comparisons].
        sizes: the number of examples of each comparison, with and without a difference.
        seed: of the flips, where they are drawn.
        drawn_at_most: flips; fewer, 2^17 at least, where no verdict hangs on them. The standard error of a p-value of
            0.05 is 0.0002 for 2^20, and 0.0006 for 2^17.
    """
    norms = np.sqrt((shares**2).sum(axis=0))
    weights = shares / np.where(norms > 0, norms, 1.0)
    order = np.argsort(-np.abs(weights.sum(axis=0)), kind="stable")
    weights = weights[np.abs(weights).sum(axis=1) > 0][:, order]
    observed = np.abs(weights.sum(axis=0))
    # What `least` asks for: if all examples point the same way the statistic is the root of their number.
    bests = np.sqrt(sizes[order])
    ranks = np.searchsorted(-observed, -bests - _TOLERANCE)
    alone, joint, best = (np.zeros(len(order), dtype=np.int64) for _ in range(3))
    drawn, single = 0, weights.astype(np.float32)
    exact = len(weights) <= _COUNTED
    for signs in _in_parts(_signs(len(weights), seed, drawn_at_most), len(order)):
        statistics = np.abs(signs @ single)
        alone += (statistics >= observed - _TOLERANCE).sum(axis=0)
        # From the smallest observed statistic up, the largest among those that are not ranked above.
        largest = np.maximum.accumulate(statistics[:, ::-1], axis=1)[:, ::-1]
        joint += (largest >= observed - _TOLERANCE).sum(axis=0)
        for size in np.unique(bests):
            these = (bests == size) & (ranks < len(order))
            if these.any():
                best[these] += (largest[:, ranks[these][0]] >= size - _TOLERANCE).sum()
        drawn += len(signs)
        if not exact and drawn % _DRAWN_AT_ONCE == 0 and _is_clear(_adjusted(joint, drawn, exact=False), drawn):
            break
    adjusted = _adjusted(joint, drawn, exact=exact)
    p_value = np.array([_exact(weights[:, place]) for place in range(len(order))])
    p_value = np.where(np.isnan(p_value), _share(alone, drawn, exact=exact), p_value)
    adjusted = np.maximum(adjusted, p_value)
    before = np.concatenate([[0.0], adjusted])[ranks]
    agreeing, others = 2.0 ** (1 - sizes[order]), best / drawn
    # Where all examples differ by as much, those that all agree are among the counted ones already.
    counted = np.abs(weights).sum(axis=0) >= bests - _TOLERANCE
    least = np.maximum(before, np.where(counted, np.maximum(others, agreeing), np.minimum(1.0, others + agreeing)))
    error = np.zeros(len(order)) if exact else np.sqrt(adjusted * (1 - adjusted) / drawn)
    back = np.argsort(order)
    return Outcome(p_value[back], adjusted[back], error[back], least[back])


def _signs(examples: int, seed: int, drawn_at_most: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of rows of -1 and 1: all patterns, but for the sign of the first, or drawn ones."""
    if examples <= _COUNTED:
        patterns = 2 ** max(examples - 1, 0)
        for start in range(0, patterns, _BLOCK):
            numbers = np.arange(start, min(start + _BLOCK, patterns))
            yield (2.0 * (numbers[:, None] >> np.arange(examples) & 1) - 1).astype(np.float32)
        return
    rng = np.random.default_rng(seed)
    for _ in range(0, drawn_at_most, _BLOCK):
        drawn = np.frombuffer(rng.bytes(_BLOCK * -(-examples // 8)), np.uint8).reshape(_BLOCK, -1)
        yield 2.0 * np.unpackbits(drawn, axis=1)[:, :examples].astype(np.float32) - 1


def _in_parts(blocks: Iterator[NDArray[np.float32]], comparisons: int) -> Iterator[NDArray[np.float32]]:
    """The same patterns in blocks whose statistics fit in memory."""
    most = _AT_ONCE // 2 ** int(np.ceil(np.log2(max(comparisons, 1))))
    for block in blocks:
        for start in range(0, len(block), max(most, 1)):
            yield block[start : start + max(most, 1)]


def _share(counts: NDArray[np.int64], drawn: int, *, exact: bool) -> Array:
    """The observed pattern is one of those counted; of drawn ones it is a further one."""
    return counts / drawn if exact else (counts + 1) / (drawn + 1)


def _adjusted(joint: NDArray[np.int64], drawn: int, *, exact: bool) -> Array:
    return np.maximum.accumulate(_share(joint, drawn, exact=exact))


def _is_clear(adjusted: Array, drawn: int) -> bool:
    return bool((np.abs(adjusted - LEVEL) > _CLEAR * np.sqrt(adjusted * (1 - adjusted) / drawn)).all())


def _exact(shares: Array) -> float:
    """Two-sided p-value of one comparison over all sign patterns; NaN where they are too many to count."""
    sizes = np.abs(shares[shares != 0])
    # A sample without a difference is compatible with anything.
    if sizes.size == 0:
        return 1.0
    if np.ptp(sizes) <= 1e-9 * sizes.max():
        n, fewer = len(sizes), min(int((shares > 0).sum()), int((shares < 0).sum()))
        return float(min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n))
    if sizes.size > _EXACT:
        return np.nan
    # Every sum over all examples is one over the first half plus one over the second.
    first, second = (_sums(part) for part in np.array_split(sizes, 2))
    second.sort()
    extreme = abs(float(shares.sum())) - 1e-9 * float(sizes.sum())
    above = second.size - np.searchsorted(second, extreme - first, side="left")
    below = np.searchsorted(second, -extreme - first, side="right")
    return float(min(1.0, (above.sum() + below.sum()) / 2.0**sizes.size))


def _sums(sizes: Array) -> Array:
    """Of all sign patterns."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums
