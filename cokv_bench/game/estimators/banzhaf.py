"""Banzhaf values by maximum sample reuse (Wang and Jia, AISTATS 2023, arXiv 2205.15466)."""

import numpy as np
from scipy.stats import chi2

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import (
    Estimate,
    Estimator,
    Measured,
    clustered_errors,
    measured,
    sum_by_unit,
)
from cokv_bench.registries import ESTIMATORS

#: Uniform sampling has sizes less likely than this once in a million ledgers.
_SURE = 1e-6


def banzhaf(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Mean U(S) over sampled S with i less the mean over those without: every row informs every player.

    That is the Banzhaf value (the mean of U(S with i) - U(S) over all S without i, not normalised) if S is uniform
    among all coalitions, and only then: rows of other samplings are refused where their sizes give them away (in games
    of a few players they need many rows for that). With pairs of complements it is unbiased, being the mean of c(S)
    for the i in S and of -c(S) for the others.

    Args:
        coalitions: bool [m, players].
        utilities: float [m].
        units: int [m]; see `Estimation`.

    Returns:
        Estimate; NaN with infinite error for a player who is in every row or in none.

    Raises:
        RequestError: shapes that do not fit, or sizes that uniform sampling does not have.
    """
    rows = measured(coalitions, utilities, units)
    _check_uniform(rows)
    inside = rows.coalitions.astype(np.float64)
    counts = np.stack([inside.sum(axis=0), (1 - inside).sum(axis=0)])  # [with and without, players]
    sums = np.stack([rows.utilities @ inside, rows.utilities @ (1 - inside)])
    known = (counts > 0).all(axis=0)
    counts = np.maximum(counts, 1)
    means = sums / counts
    gaps = rows.utilities[:, None] - np.where(rows.coalitions, means[0], means[1])
    scores = gaps * np.where(rows.coalitions, 1 / counts[0], -1 / counts[1])
    errors = clustered_errors(sum_by_unit(scores, rows.units))
    values = np.where(known, means[0] - means[1], np.nan)
    return Estimate(values, np.where(known, errors, np.inf), "banzhaf", rows.first.size)


def _check_uniform(rows: Measured) -> None:
    """Refuse sizes too far from n/2, or too near to it, to come from a coin for every player.

    The squared distance, in units of its mean n/4, is chi-square with one degree of freedom for each unit: a coalition
    is as far off as its complement. Sizes are whole numbers, which makes small distances, zero above all, more likely
    than that: for these the distance counts as half a player more.
    """
    distances = np.abs(2.0 * rows.sizes - rows.players)
    rows_of_unit = np.bincount(rows.units)
    squares = np.square([distances, distances + 1]).T / rows.players
    far, near = (sum_by_unit(squares, rows.units) / rows_of_unit[:, None]).sum(axis=0)
    if min(chi2.sf(far, rows_of_unit.size), chi2.cdf(near, rows_of_unit.size)) < _SURE:
        raise RequestError(
            "The coalition sizes are not those of uniformly drawn coalitions, which the estimator 'banzhaf' needs; "
            "sample with uniform."
        )


BANZHAF = Estimator("banzhaf", ESTIMATORS.line("banzhaf"), "uniform", banzhaf)
