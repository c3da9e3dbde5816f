"""Head values by ridge regression of the utility on membership: every measured coalition informs every head."""

import numpy as np
from sklearn.linear_model import RidgeCV

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, complement_pairs
from cokv_bench.game.estimators.base import Estimate, Estimator
from cokv_bench.game.sampling import paper_slices

_PENALTIES = np.logspace(-3, 4, 29)


def ridge(coalitions: BoolArray, utilities: FloatArray) -> Estimate:
    """Coefficients of an additive model of the utility, shrunken towards equal heads.

    Utilities and memberships are centred within each coalition size, so that the size itself explains nothing, and the
    penalty is chosen by leave-one-out error. A biased estimate of a head's average contribution, and far
    less noisy than a mean over few samples: a coalition tells of all heads at once, and so does its complement.
    The values sum to zero; a negative one means less than the average head.

    Args:
        coalitions: bool [m, players]; complements may be there or not.
        utilities: float [m].

    Returns:
        Estimate. The standard errors are those of the shrunken coefficients at the chosen penalty, robust
        and clustered by pairs of complements; they do not measure the bias. Infinite for a single pair.

    Raises:
        RequestError: shapes that do not fit, a utility that is not finite, or no coalition at all.
    """
    coalitions = np.asarray(coalitions, dtype=bool)
    utilities = np.asarray(utilities, dtype=np.float64)
    if coalitions.ndim != 2 or utilities.shape != coalitions.shape[:1] or not len(utilities):
        raise RequestError(
            f"Coalitions {list(coalitions.shape)} and utilities {list(utilities.shape)} do not fit; "
            "expected [m, players] and [m] with m of at least 1."
        )
    if not np.isfinite(utilities).all():
        raise RequestError("Utilities must be finite numbers.")
    sizes = coalitions.sum(axis=1)
    design, target = coalitions.astype(np.float64), utilities.copy()
    for size in np.unique(sizes):
        same = sizes == size
        # The mean of the sample, not size / players: else chance in who was sampled would be left in the target.
        design[same] -= design[same].mean(axis=0)
        target[same] -= target[same].mean()
    fit = RidgeCV(alphas=_PENALTIES, fit_intercept=False).fit(design, target)
    values = np.asarray(fit.coef_, dtype=np.float64)
    inverse = np.linalg.inv(design.T @ design + fit.alpha_ * np.eye(design.shape[1]))
    first, second = complement_pairs(coalitions)
    cluster = np.arange(len(utilities))
    cluster[second] = first
    groups = np.unique(cluster, return_inverse=True)[1]
    pulls = np.zeros((groups.max() + 1, design.shape[1]))
    np.add.at(pulls, groups, design * (target - design @ values)[:, None])
    if len(pulls) < 2:
        return Estimate(values, np.full_like(values, np.inf), "ridge", len(first))
    correction = len(pulls) / (len(pulls) - 1)
    errors = np.sqrt(np.diag(inverse @ (pulls.T @ pulls) @ inverse) * correction)
    return Estimate(values, errors, "ridge", len(first))


RIDGE = Estimator("ridge", "ridge regression on membership, all coalitions inform all heads", paper_slices, ridge)
