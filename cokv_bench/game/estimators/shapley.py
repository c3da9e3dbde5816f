"""Shapley values by complementary contributions over all strata (Zhang et al., SIGMOD 2023)."""

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Estimate, Estimator, measured
from cokv_bench.game.estimators.strata import check_sizes, contributions, stratified_sum
from cokv_bench.registries import ESTIMATORS


def stratified_shapley(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Shapley values, the mean over j = 1..players of E[c(S) | i in S, |S| = j].

    A pair informs every player: the members of S in stratum |S| and the others, whose coalition is the complement with
    c(N without S) = -c(S), in stratum players - |S|. Unbiased once every cell has a sample. That takes many pairs
    for many players: the cell (i, 1) is only ever informed by the pair of {i}.

    Args:
        coalitions: bool [m, players], complements paired by lookup.
        utilities: float [m].
        units: int [m]; see `Estimation`.

    Returns:
        Estimate; see `stratified_sum` for cells with fewer than two samples (infinite standard errors, NaN values
        where a stratum was not sampled yet).

    Raises:
        RequestError: shapes that do not fit, no complete pair, or a sampling without all sizes.
    """
    sampled = contributions(measured(coalitions, utilities, units))
    players = sampled.members.shape[1]
    both = sampled.both_sides()
    strata = range(1, players + 1)
    check_sizes(both, strata, "shapley", "strata, neyman or permutation")
    mean = stratified_sum(both, dict.fromkeys(strata, 1 / players))
    return Estimate(mean.values, mean.standard_errors(), "shapley", sampled.values.size)


SHAPLEY = Estimator(
    "shapley",
    ESTIMATORS.line("shapley"),
    "strata",
    stratified_shapley,
    also=("neyman", "permutation"),
)
