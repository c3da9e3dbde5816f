"""Head values by ridge regression of the utility on membership: every measured coalition informs every head."""

import numpy as np
from sklearn.linear_model import RidgeCV

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Estimate, Estimator, clustered_variances, measured, sum_by_unit

_PENALTIES = np.logspace(-3, 4, 29)


def ridge(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Coefficients of an additive model of the utility, shrunken towards equal heads.

    Utilities and memberships are centred within each coalition size, so that the size itself explains nothing, and the
    penalty is chosen by leave-one-out error. A biased estimate of a head's average contribution, and far
    less noisy than a mean over few samples: a coalition tells of all heads at once, and so does its complement.
    The values sum to zero; a negative one means less than the average head.

    Args:
        coalitions: bool [m, players]; complements may be there or not.
        utilities: float [m].
        units: int [m]; see `Run`.

    Returns:
        Estimate. The standard errors are those of the shrunken coefficients at the chosen penalty, robust
        and clustered by units; they do not measure the bias. Infinite for a single unit.

    Raises:
        RequestError: shapes that do not fit, a utility that is not finite, or no coalition at all.
    """
    rows = measured(coalitions, utilities, units)
    design, target = rows.coalitions.astype(np.float64), rows.utilities.copy()
    for size in np.unique(rows.sizes):
        same = rows.sizes == size
        # The mean of the sample, not size / players: else chance in who was sampled would be left in the target.
        design[same] -= design[same].mean(axis=0)
        target[same] -= target[same].mean()
    fit = RidgeCV(alphas=_PENALTIES, fit_intercept=False).fit(design, target)
    values = np.asarray(fit.coef_, dtype=np.float64)
    inverse = np.linalg.inv(design.T @ design + fit.alpha_ * np.eye(design.shape[1]))
    pulls = sum_by_unit(design * (target - design @ values)[:, None], rows.units)
    errors = np.sqrt(clustered_variances(pulls @ inverse))
    return Estimate(values, errors, "ridge", rows.first.size)


RIDGE = Estimator(
    "ridge",
    "ridge regression on membership, all coalitions inform all heads",
    "slices",
    ridge,
    also=("antithetic", "strata", "neyman", "permutation", "uniform"),
)
