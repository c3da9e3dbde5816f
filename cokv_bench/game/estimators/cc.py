"""Centred sliced values from members and non-members alike: every pair informs every head."""

import numpy as np

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Estimate, Estimator, TooFewRowsError, measured
from cokv_bench.game.estimators.strata import Contributions, Stratified, contributions, stratified_sum
from cokv_bench.registries import ESTIMATORS


def complementary_contributions(
    coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None
) -> Estimate:
    """Half the mean over the sampled slices s of mean(c(S) | i in S) - mean(c(S) | i not in S), centred.

    Let d be the deviation of player i from the mean of stratum s: E[c | i in S, |S| = s] - E[c | |S| = s]. Since c
    averages over all S to its mean, the others have E[c | i not in S] - E[c] = -d s/(n - s), and because the complement
    of such an S has c of opposite sign and size n - s, player i deviates by d s/(n - s) in the stratum n - s. The two
    strata together are worth d + d s/(n - s) = d n/(n - s), which is exactly the difference of the two means:
    members and non-members tell the same, and their difference needs no level.

    A slice above n/2 is folded onto n - s, its complements in place of its coalitions. The slices are points of a
    quadrature over (0, n/2] and count alike; half their mean estimates the deviation of the Shapley value from the mean
    of all players. Where all sizes from 1 to n/2 were sampled there is nothing to interpolate and every stratum counts
    1/n, so that the two agree exactly: the size n/2 is one stratum where every other size is two. (As points of a
    quadrature, the slices of the paper stand for an eighth of the sizes each, within one size.)

    Args:
        coalitions: bool [m, players], complements paired by lookup.
        utilities: float [m].
        units: int [m]; see `Estimation`.

    Returns:
        Estimate whose values sum to zero; `exact_cc` of the sampled slices is what it estimates. See `stratified_sum`
        for cells with fewer than two samples.

    Raises:
        RequestError: shapes that do not fit, or no complete pair of a coalition that is neither empty nor full.
    """
    sampled = contributions(measured(coalitions, utilities, units))
    both = sampled.both_sides()
    weights = _stratum_weights(both)
    total = stratified_sum(both, weights)
    scores = total.scores - total.scores.mean(axis=1, keepdims=True)
    centred = Stratified(total.values - total.values.mean(), scores, total.degrees, total.unknown)
    used = int(np.isin(sampled.sizes, list(weights)).sum())
    return Estimate(centred.values, centred.standard_errors(), "cc", used)


def _stratum_weights(both: Contributions) -> dict[int, float]:
    """What each stratum counts, for pairs listed from both sides.

    mean(c | i not in S) at size s is the negative of mean(c | i in S) at size n - s, so the difference of the two
    is a sum over the strata s and n - s, and at s = n/2 twice the one stratum.
    """
    players = both.members.shape[1]
    strata = [size for size in np.unique(both.sizes).tolist() if size not in (0, players)]
    folds = {min(size, players - size) for size in strata}
    if not folds and players > 1:
        raise TooFewRowsError("Only the full and the empty coalition were measured; sample other sizes as well.")
    if len(strata) == players - 1:
        return dict.fromkeys(strata, 1 / players)
    return {size: (2 if 2 * size == players else 1) / (2 * len(folds)) for size in strata}


CC = Estimator(
    "cc",
    ESTIMATORS.line("cc"),
    "slices",
    complementary_contributions,
    also=("antithetic", "strata", "neyman", "permutation"),
)
