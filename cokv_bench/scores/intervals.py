"""How sure a mean over examples is, and a ratio of two: 95% intervals that cover what they say with few rows a task."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bounds = tuple[float, float]

#: Bounds of scores in percent, and of differences between two.
SCORES: Bounds = (0.0, 100.0)
GAINS: Bounds = (-100.0, 100.0)
_NORMAL = 1.959964
#: A single variance of two rows says next to nothing: its t quantile is 12.7.
_FEWEST_DEGREES = 2
_NONE = (np.nan, np.nan)


class Spread(NamedTuple):
    """The standard error of a mean of the groups' means, and the degrees of freedom of its square."""

    error: float
    degrees: float


def interval(groups: Sequence[Array], bounds: Bounds | None = None) -> tuple[float, float]:
    """95% interval of the mean of the groups' means, for new examples of the same groups (tasks are fixed).

    Each group's variance is estimated from its own rows, without bias; the t quantile has Satterthwaite's degrees of
    freedom, n - 1 for one group. A variance of rows that all agree is 0 however few they are, so groups without any and
    one group of answers that are right or wrong, have Wilson's interval, and their paired differences Bonett and
    Price's ("Adjusted Wald confidence interval for a difference of binomial proportions based on paired data", 2012).
    Scores between the bounds count as shares of one, whose variance is smaller. Groups that agree on one value are
    counted together; of those that do not, the distances from mean to ends are added by squares (Zou and Donner,
    "Construction of confidence limits about effect measures", 2008).

    Args:
        groups: scores or differences, an array per task; one group gives the interval of a plain mean.
        bounds: least and greatest possible value (`SCORES`, `GAINS`), None for log-probabilities.

    Returns:
        Low and high; NaN where the groups have fewer than two degrees of freedom between them (such as one task of two
        rows) or where one of them is a single row.
    """
    if min(map(len, groups)) < 2 or sum(len(group) - 1 for group in groups) < _FEWEST_DEGREES:
        return _NONE
    mean = float(np.mean([group.mean() for group in groups]))
    if bounds is None:
        return _by_t(mean, spread(groups))
    if not any(map(np.ptp, groups)):
        together = len({float(group[0]) for group in groups}) == 1
        return _of_constants([np.concatenate(groups)] if together else groups, bounds)
    if len(groups) == 1 and np.isin(groups[0], (*bounds, 0.0)).all():
        return _of_shares(groups[0], bounds)
    low, high = _by_t(mean, spread(groups))
    return max(low, bounds[0]), min(high, bounds[1])


def spread(groups: Sequence[Array]) -> Spread:
    """Standard error and degrees of freedom of the mean of the groups' means; each group has two rows or more."""
    counts = np.array([len(group) for group in groups])
    variances = np.array([group.var(ddof=1) for group in groups]) / counts / len(groups) ** 2
    total = variances.sum()
    degrees = total**2 / (variances**2 / (counts - 1)).sum() if total > 0 else np.inf
    return Spread(float(np.sqrt(total)), float(degrees))


def _by_t(mean: float, spread: Spread) -> tuple[float, float]:
    half = _t_quantile(spread.degrees) * spread.error
    return mean - half, mean + half


def _t_quantile(degrees: float) -> float:
    from scipy.special import stdtrit  # On first use: tables are often read only.

    return _NORMAL if np.isinf(degrees) else float(stdtrit(degrees, 0.975))


def _of_constants(groups: Sequence[Array], bounds: Bounds) -> tuple[float, float]:
    """Of groups whose rows agree."""
    means = np.array([group[0] for group in groups])
    below, above = np.abs(np.array([_of_shares(group, bounds) for group in groups]) - means[:, None]).T
    mean = float(means.mean())
    return mean - float(np.linalg.norm(below)) / len(groups), mean + float(np.linalg.norm(above)) / len(groups)


def _of_shares(values: Array, bounds: Bounds) -> tuple[float, float]:
    """Of values of one group, as if each were won or lost to the share that it has of a bound."""
    n, (low, high) = len(values), bounds
    if low == 0:
        share, squared = values.mean() / high, _NORMAL**2
        centre = (share + squared / (2 * n)) / (1 + squared / n)
        half = _NORMAL / (1 + squared / n) * np.sqrt(share * (1 - share) / n + squared / (4 * n * n))
    else:
        won, lost = ((np.clip(side * values, 0, None).sum() / high + 1) / (n + 2) for side in (1, -1))
        centre, half = won - lost, _NORMAL * np.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    # Rounding may pass a bound that is the exact end.
    return float(max(low, high * (centre - half))), float(min(high, high * (centre + half)))


def ratio_intervals(groups: Sequence[Array]) -> tuple[Array, Array]:
    """95% intervals of ratios of means of the groups' means, by Fieller's theorem.

    A ratio is in its interval where the interval of numerator - ratio x denominator, taken example by example, holds 0.

    Args:
        groups: an array [ratios + 1, examples] per task: the numerators, then the denominator that all share. The
            examples of a task have their numbers in the same order.

    Returns:
        Lows and highs, [ratios] each; NaN where the denominator is not clearly above 0, where neither it nor the
        numerator varies, or where `interval` has none.
    """
    ratios = len(groups[0]) - 1
    counts = np.array([group.shape[1] for group in groups])
    lows, highs = np.full(ratios, np.nan), np.full(ratios, np.nan)
    if counts.min() < 2 or (counts - 1).sum() < _FEWEST_DEGREES:
        return lows, highs
    means = np.mean([group.mean(axis=1) for group in groups], axis=0)
    covariance = sum(np.cov(group) / group.shape[1] for group in groups) / len(groups) ** 2
    for ratio in range(ratios):
        at = means[ratio] / means[-1]
        quantile = _t_quantile(spread([group[ratio] - at * group[-1] for group in groups]).degrees) ** 2
        # (numerator - ratio x denominator)^2 <= quantile x its variance, a quadratic in the ratio.
        square = means[-1] ** 2 - quantile * covariance[-1, -1]
        linear = means[ratio] * means[-1] - quantile * covariance[ratio, -1]
        constant = means[ratio] ** 2 - quantile * covariance[ratio, ratio]
        if means[-1] > 0 and square > 0 and covariance[ratio, ratio] + covariance[-1, -1] > 0:
            root = np.sqrt(max(0.0, linear**2 - square * constant))
            lows[ratio], highs[ratio] = (linear - root) / square, (linear + root) / square
    return lows, highs
