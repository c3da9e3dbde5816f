"""Shapley values by complementary contributions over all strata (Zhang et al., SIGMOD 2023)."""

import numpy as np

from cokv_bench.game.coalitions import BoolArray, FloatArray
from cokv_bench.game.estimators.base import Contributions, Estimate, Estimator, contributions, stratified_mean
from cokv_bench.game.sampling import all_strata


def stratified_shapley(coalitions: BoolArray, utilities: FloatArray) -> Estimate:
    """Shapley values, the mean over j = 1..players of E[c(S) | i in S, |S| = j].

    A pair informs every player: the members of S in stratum |S| and the others, whose coalition is the complement with
    c(N without S) = -c(S), in stratum players - |S|. Unbiased once every cell has a sample. That takes many pairs
    for many players: the cell (i, 1) is only ever informed by the pair of {i}.

    Args:
        coalitions: bool [m, players], complements paired by lookup.
        utilities: float [m].

    Returns:
        Estimate; see `stratified_mean` for cells with fewer than two samples (infinite standard errors, NaN values
        where a stratum was never sampled).

    Raises:
        RequestError: shapes that do not fit, or no complete pair.
    """
    pairs = contributions(coalitions, utilities)
    players = pairs.members.shape[1]
    both = Contributions(
        np.concatenate([pairs.members, ~pairs.members]),
        np.concatenate([pairs.sizes, players - pairs.sizes]),
        np.concatenate([pairs.values, -pairs.values]),
    )
    values, errors = stratified_mean(both, range(1, players + 1))
    return Estimate(values, errors, "shapley", pairs.values.size)


SHAPLEY = Estimator(
    "shapley", "Shapley values by complementary contributions over all sizes", all_strata, stratified_shapley
)
