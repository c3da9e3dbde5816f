"""Head values by ridge regression of the utility on membership: every measured coalition informs every head."""

import numpy as np

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Estimate, Estimator, clustered_variances, measured, sum_by_unit
from cokv_bench.game.estimators.leave_out import LevelledFit

_PENALTIES = np.logspace(-3, 4, 29)
#: Errors that differ by less than this part are equal: rounding must not choose the penalty.
_EQUAL = 1e-9


def ridge(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Coefficients of an additive model of the utility, shrunken towards equal heads.

    Utilities and memberships are centred within each coalition size, so that the size itself explains nothing. The
    penalty is the one with the smallest error on units that were left out of the fit. A unit is left out as a whole: a
    coalition and its complement have mirrored memberships, so what they have in common never reaches the coefficients,
    and a fit that still held the one would take it for noise in the other. The values are biased towards zero. They sum
    to zero; a negative one means less than the average head.

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
    sizes = np.unique(rows.sizes, return_inverse=True)[1]
    fit = LevelledFit.of(rows.coalitions.astype(np.float64), rows.utilities, sizes, rows.units)
    penalty = _choose(fit)
    values = fit.coefficients(penalty)
    inverse = np.linalg.inv(fit.design.T @ fit.design + penalty * np.eye(rows.players))
    pulls = sum_by_unit(fit.design * (fit.target - fit.design @ values)[:, None], rows.units)
    errors = np.sqrt(clustered_variances(pulls @ inverse))
    return Estimate(values, errors, "ridge", rows.first.size)


def _choose(fit: LevelledFit) -> float:
    """The penalty with the smallest sum of squares of what is left out; the largest of equally good ones."""
    errors = np.array([np.square(fit.left_out(penalty)).sum() for penalty in _PENALTIES])
    return float(_PENALTIES[np.flatnonzero(errors <= errors.min() * (1 + _EQUAL))[-1]])


RIDGE = Estimator(
    "ridge",
    "ridge regression on membership, all coalitions inform all heads",
    "slices",
    ridge,
    also=("antithetic", "strata", "neyman", "permutation", "uniform"),
)
