"""How sure a mean over examples is, and a ratio of two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000


def interval(groups: Sequence[NDArray[np.float64]], seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of the groups' means, resampled within each group.

    Args:
        groups: scores or differences, an array a task; one group gives the interval of a plain mean.
        seed: of the resampling.

    Returns:
        Low and high; NaN where a group is a single example.
    """
    if min(len(group) for group in groups) < 2:
        return np.nan, np.nan
    if all(np.ptp(group) == 0 for group in groups):
        mean = float(np.mean([group[0] for group in groups]))
        return mean, mean

    from scipy.stats import bootstrap  # On first use: importing it takes over a second, and tables are often read only.

    def mean_of_means(*samples: NDArray[np.float64], axis: int) -> Any:
        return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)

    result = bootstrap(
        groups,
        mean_of_means,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
        vectorized=True,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def ratio_intervals(
    groups: Sequence[NDArray[np.float64]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95% percentile bootstrap intervals of ratios of means of the groups' means, resampled within each group.

    Args:
        groups: an array [ratios + 1, examples] a task, the numerators and then the denominator that all share, whose
            own interval lies above 0. An example's numbers are resampled together.
        seed: of the resampling.

    Returns:
        Lows and highs, [ratios] each.
    """
    rng = np.random.default_rng(seed)
    sums = np.zeros((len(groups[0]), _RESAMPLES))
    for group in groups:
        drawn = rng.integers(group.shape[1], size=(_RESAMPLES, group.shape[1]))
        sums += [row[drawn].mean(axis=1) for row in group]
    # The few resamples with nothing to divide by say nothing of the ratio.
    sums = sums[:, sums[-1] > 0]
    low, high = np.percentile(sums[:-1] / sums[-1], [2.5, 97.5], axis=1)
    return low, high
