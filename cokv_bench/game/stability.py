"""How far a ledger has come: what its two halves say of each other, and the standard errors of the whole."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators import Estimate, Estimator, TooFewRowsError


@dataclass(frozen=True)
class Stability:
    """Agreement of the two halves of a ledger; NaN where a half cannot be estimated yet.

    Attributes:
        rank_correlation: Spearman correlation between the values of the halves, -1 to 1. NaN as well where all values
            of a half are equal.
        mean_absolute_difference: between the values of the halves, in units of the utility. CoKV (arXiv 2502.17501)
            stops when that of two independent runs is below 1/players; a half is a run of half the length.
        standard_error: median over the players of the standard errors of the whole ledger; inf if unknown.
        reliability: the rank correlation to expect between two ledgers as long as the whole one, by the formula of
            Spearman and Brown, 2 r / (1 + r); 0 where the halves do not agree at all (r of 0 or less).
    """

    rank_correlation: float
    mean_absolute_difference: float
    standard_error: float
    reliability: float


def halves(units: ArrayLike, sizes: ArrayLike) -> BoolArray:
    """Divide rows in two halves of whole units that hold the same sizes.

    The units of a size go to the one and the other half by turns, in the order in which they first appear. With which
    half a size begins alternates from size to size, so that sizes with an odd number of units do not all favour the
    same. A row stays in its half when the ledger grows.

    Args:
        units: int [m].
        sizes: int [m], what each row was sampled for; a unit counts for the size of its first row.

    Returns:
        bool [m]; True for the first half.

    Raises:
        RequestError: shapes that do not fit.
    """
    units, sizes = np.asarray(units), np.asarray(sizes)
    if units.ndim != 1 or units.shape != sizes.shape:
        raise RequestError(f"Units {list(units.shape)} and sizes {list(sizes.shape)} do not fit; expected [m] each.")
    _, starts, unit = np.unique(units, return_index=True, return_inverse=True)
    # Units, and sizes below, numbered by first appearance: rows to come change nothing.
    unit = np.argsort(np.argsort(starts))[unit]
    _, seen, size = np.unique(sizes[np.sort(starts)], return_index=True, return_inverse=True)
    size = np.argsort(np.argsort(seen))[size]
    order = np.argsort(size, kind="stable")
    turn = np.empty_like(size)
    turn[order] = np.arange(size.size) - np.searchsorted(size[order], size[order])
    chosen: BoolArray = ((turn + size) % 2 == 0)[unit]
    return chosen


def stability(
    estimator: Estimator, coalitions: BoolArray, utilities: FloatArray, units: IntArray, sizes: IntArray
) -> tuple[Estimate, Stability]:
    """The estimate from all rows measured so far, and how stable it is; too few rows are no error.

    Args:
        estimator: one of `ESTIMATORS`.
        coalitions: bool [m, players].
        utilities: float [m].
        units: int [m], of the sampling plan.
        sizes: int [m], what each row was sampled for.

    Returns:
        Estimate (NaN values with infinite errors while there are too few rows) and Stability.

    Raises:
        RequestError: shapes that do not fit, a utility that is not finite, or rows of a sampling that the estimator
            cannot use.
    """
    whole = _estimate(estimator, coalitions, utilities, units, TooFewRowsError)
    first = halves(units, sizes)
    # The full and the empty coalition of the stratum N are not drawn by chance, and some plans measure them only once.
    fixed = np.asarray(sizes) == coalitions.shape[1]
    one, other = (
        # What the whole ledger may hold a half need not.
        _estimate(estimator, coalitions[rows], utilities[rows], units[rows], RequestError)
        for rows in (first | fixed, ~first | fixed)
    )
    correlation = _rank_correlation(one.values, other.values)
    agreement = np.maximum(correlation, 0.0)  # NaN stays NaN
    return whole, Stability(
        rank_correlation=correlation,
        mean_absolute_difference=float(np.abs(one.values - other.values).mean()),
        standard_error=float(np.median(whole.standard_errors)),
        reliability=float(2 * agreement / (1 + agreement)),
    )


def _estimate(
    estimator: Estimator,
    coalitions: BoolArray,
    utilities: FloatArray,
    units: IntArray,
    unknown: type[RequestError],
) -> Estimate:
    """The estimate, with NaN values and infinite errors where the estimator raises `unknown`."""
    try:
        return estimator.run(coalitions, utilities, units)
    except unknown:
        players = coalitions.shape[1]
        return Estimate(np.full(players, np.nan), np.full(players, np.inf), estimator.name, 0)


def _rank_correlation(one: FloatArray, other: FloatArray) -> float:
    """NaN, without a warning, where a side is unknown or has nothing to rank."""
    if not np.isfinite([one, other]).all() or np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(spearmanr(one, other).statistic)
