"""Head values by ridge regression of the utility on membership: every measured coalition informs every head."""

import numpy as np

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Estimate, Estimator, Measured, measured
from cokv_bench.game.estimators.leave_out import LevelledFit
from cokv_bench.game.estimators.ridge_errors import expected_errors
from cokv_bench.registries import ESTIMATORS

_PENALTIES = np.logspace(-3, 4, 29)
#: Errors that differ by less than this part are equal: rounding must not choose the penalty.
_EQUAL = 1e-9


def ridge(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Coefficients of an additive model of the utility, shrunken towards equal heads.

    A coalition and its complement enter as their difference: what they share says nothing about single heads. A
    coalition without its complement enters as it is. Each coalition size has a free level, so that the size itself
    explains nothing. The penalty is the one with the smallest error on units that were left out of the fit, each as a
    whole. The values are biased towards zero. They sum to zero; a negative one means less than the average head.

    Args:
        coalitions: bool [m, players]; complements may be there or not.
        utilities: float [m].
        units: int [m]; see `Estimation`.

    Returns:
        Estimate. The true values are those that infinitely many coalitions of the same sampling would give, and the
        standard errors measure the distance from them, shrinkage included; see `expected_errors`.

    Raises:
        RequestError: shapes that do not fit, a utility that is not finite, or no coalition at all.
    """
    rows = measured(coalitions, utilities, units)
    fit = _fit(rows)
    penalty = _choose(fit)
    values = fit.coefficients(penalty)
    return Estimate(values, expected_errors(fit, penalty, values), "ridge", rows.first.size)


def _fit(rows: Measured) -> LevelledFit:
    """The model of the differences of pairs and of the coalitions without a complement."""
    alone = np.ones(len(rows.utilities), dtype=bool)
    alone[rows.first] = alone[rows.second] = False

    def folded(values: FloatArray) -> FloatArray:
        # Over the root of 2: as large as the two rows in a sum of squares.
        pairs = (values[rows.first] - values[rows.second]) / np.sqrt(2)
        return np.concatenate([pairs, values[alone]])

    units = np.concatenate([rows.units[rows.first], rows.units[alone]])
    return LevelledFit.of(
        folded(rows.coalitions.astype(np.float64)),
        folded(rows.utilities),
        folded((rows.sizes[:, None] == np.unique(rows.sizes)).astype(np.float64)),
        np.unique(units, return_inverse=True)[1],
    )


def _choose(fit: LevelledFit) -> float:
    """The penalty with the smallest sum of squares of what is left out; the largest of equally good ones."""
    errors = np.array([np.square(fit.left_out(penalty)).sum() for penalty in _PENALTIES])
    return float(_PENALTIES[np.flatnonzero(errors <= errors.min() * (1 + _EQUAL))[-1]])


RIDGE = Estimator(
    "ridge",
    ESTIMATORS.line("ridge"),
    "slices",
    ridge,
    also=("antithetic", "strata", "neyman", "permutation", "uniform"),
)
