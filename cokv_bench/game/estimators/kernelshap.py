"""Shapley values by regression: KernelSHAP (arXiv 1705.07874) on leverage scores (arXiv 2410.01917)."""

import numpy as np
from scipy.linalg import pinvh

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import (
    Estimate,
    Estimator,
    TooFewRowsError,
    clustered_variances,
    measured,
    sum_by_unit,
)

#: Directions with less than this part of the largest sum of squares count as not measured.
_SINGULAR = 1e-10


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
        units: int [m]; see `Run`.

    Returns:
        Estimate; robust (sandwich) standard errors, clustered by units. They are infinite, and the values the smallest
        of many solutions, until there are more pairs than players.

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
    used = int(inner[rows.first].sum())
    deviations, variances = _fit(rows.coalitions[inner], level, target, weights, units, sizes.size - used)
    return Estimate(deviations + (full - empty) / players, np.sqrt(variances), "kernelshap", used)


def _fit(
    members: BoolArray, level: FloatArray, target: FloatArray, weights: FloatArray, units: IntArray, lines: int
) -> tuple[FloatArray, FloatArray]:
    """Weighted least squares of float [m] on membership, coefficients summing to zero, and on `level` [m, columns].

    Returns:
        Coefficients of the players and their variances, float64 [players] each.
    """
    players = members.shape[1]
    # Rows that sum to zero: so does the smallest solution.
    design = np.hstack([members - members.mean(axis=1, keepdims=True), level])
    # The sum of the players is a direction without data; rounding must not pass for some.
    bread, rank = pinvh(design.T @ (design * weights[:, None]), rtol=_SINGULAR, return_rank=True)
    coefficients = bread @ (design.T @ (weights * target))
    if rank < players - 1 + level.shape[1] or lines < players:
        return coefficients[:players], np.full(players, np.inf)
    pulls = sum_by_unit(design * (weights * (target - design @ coefficients))[:, None], units)
    # A fit to its own noise leaves residuals too small.
    lost = lines / (lines - players + 1)
    return coefficients[:players], clustered_variances(pulls @ bread)[:players] * lost


KERNELSHAP = Estimator(
    "kernelshap",
    "Shapley values by regression with leverage-score sampling",
    "strata",
    kernelshap,
    also=("neyman", "permutation", "slices", "antithetic"),
)
