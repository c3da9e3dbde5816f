"""Shapley values by regression: KernelSHAP (arXiv 1705.07874) on leverage scores (arXiv 2410.01917)."""

from dataclasses import replace

import numpy as np

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import (
    Estimate,
    Estimator,
    TooFewRowsError,
    measured,
    student,
)
from cokv_bench.game.estimators.leave_out import LevelledFit
from cokv_bench.registries import ESTIMATORS

#: With fewer units than this nothing is known of how the lines of a unit depend on each other.
_UNITS = 5
#: A penalty of this part of the smallest sum of squares changes nothing that was measured.
_TRACE = 1e-9


def kernelshap(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Additive model of the utility, fitted by weighted least squares; its coefficients are the Shapley values.

    The Shapley values minimise the sum over all S of k(S) (U(S) - U(empty) - sum of the values in S)**2 with
    k(S) = 1 / (C(n, s) s (n - s)), under the constraint that they sum to U(N) - U(empty). The leverage score of S is
    1 / C(n, s), so sampling by leverage scores means uniform sizes, which `strata` has, and pairs of complements
    reduce the variance. The rows of a size share the weight 1 / (s (n - s)), whatever their number, so that any other
    allocation over the sizes is corrected as well; sizes without a row have no say. (A size that chance left with a row
    or two weighs as much as the others, and the errors cannot tell how badly: not for uniform coalitions.) The values
    are a ratio of two sample means: consistent as rows become many, not exactly unbiased.

    Where the full and the empty coalition are among the rows the constraint holds exactly. Else a level and a slope by
    size take its place, and the values are centred: they sum to zero.

    Args:
        coalitions: bool [m, players].
        utilities: float [m].
        units: int [m]; see `Estimation`.

    Returns:
        Estimate; robust (sandwich) standard errors, larger where the pairs of a unit depend on each other. They are
        infinite, and the values the smallest of many solutions, until there are more pairs than players and, where
        units hold several pairs, five units.

    Raises:
        TooFewRowsError: only full and empty coalitions.
        RequestError: shapes that do not fit.
    """
    rows = measured(coalitions, utilities, units)
    players = rows.players
    ends = [rows.utilities[rows.sizes == size] for size in (0, players)]
    bounded = all(end.size for end in ends)
    empty, full = (end.mean() if bounded else 0.0 for end in ends)
    if players == 1 and bounded:
        return Estimate(np.full(1, full - empty), np.zeros(1), "kernelshap", rows.first.size)
    inner = (rows.sizes > 0) & (rows.sizes < players)
    if not inner.any():
        raise TooFewRowsError("Only the full and the empty coalition were measured; sample other sizes as well.")
    sizes = rows.sizes[inner]
    target = rows.utilities[inner] - empty - sizes / players * (full - empty)
    level = np.empty((sizes.size, 0)) if bounded else np.vander(sizes / players, min(2, np.unique(sizes).size))
    weights = 1 / (sizes * (players - sizes) * np.bincount(sizes)[sizes])
    units = np.unique(rows.units[inner], return_inverse=True)[1]
    # A coalition and its complement pull in opposite directions along one line: a pair counts once.
    lines = np.arange(len(rows.utilities))
    lines[rows.second] = rows.first
    lines = np.unique(lines[inner], return_inverse=True)[1]
    root = np.sqrt(weights)
    # Rows that sum to zero: so does the smallest solution.
    members = rows.coalitions[inner] - sizes[:, None] / players
    fit = LevelledFit.of(members * root[:, None], target * root, level * root[:, None], lines)
    values = fit.coefficients(0.0) + (full - empty) / players
    return Estimate(values, _errors(fit, units), "kernelshap", int(inner[rows.first].sum()))


def _errors(fit: LevelledFit, units: IntArray) -> FloatArray:
    """Standard errors of the coefficients of a fit whose units are lines, float64 [players].

    Each line adds what it does with a residual as large as its noise. Where units of several lines add more together
    than their lines do one by one, which the jackknife tells, the variance of all is that many times larger.
    """
    lines, players = int(fit.units.max()) + 1, fit.design.shape[1]
    degrees = lines - players + 1
    unknown = np.full(players, np.inf)
    if fit.singular.size < players - 1 or degrees < 1:
        return unknown
    dependence = 1.0
    if int(units.max()) + 1 < lines:
        if int(units.max()) + 1 < _UNITS:
            return unknown
        # A trace of a penalty: a fit without a unit may leave directions unmeasured.
        trace = _TRACE * float(fit.singular.min() ** 2)
        dependence = max(1.0, replace(fit, units=units).jackknife(trace) / fit.jackknife(trace))
        degrees = degrees / dependence
    errors: FloatArray = np.sqrt(dependence * fit.added(0.0)) * student(max(degrees, 1))
    return errors


KERNELSHAP = Estimator(
    "kernelshap",
    ESTIMATORS.line("kernelshap"),
    "strata",
    kernelshap,
    also=("neyman", "permutation", "slices", "antithetic"),
)
