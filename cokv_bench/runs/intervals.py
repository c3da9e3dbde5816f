"""How sure a mean over examples is."""

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
