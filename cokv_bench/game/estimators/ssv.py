"""Sliced Shapley values as CoKV publishes them (arXiv 2502.17501)."""

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Estimate, Estimator, measured
from cokv_bench.game.estimators.strata import check_sizes, contributions, stratified_sum
from cokv_bench.game.sampling import paper_slices
from cokv_bench.registries import ESTIMATORS


def sliced_shapley(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """SSV_i = mean over the paper's slices j of the mean c(S) over sampled S with i in S and |S| = j.

    Faithful to the paper, a sample informs the members of S only, and pairs of other sizes are not used. The sign of a
    sliced value means nothing: the mean of a slice over the players is E[c(S)], which is far below zero for small
    slices because c(S) compares a small coalition with its large complement. Only differences between players count.

    Args:
        coalitions: bool [m, players], complements paired by lookup, S before its complement.
        utilities: float [m].
        units: int [m]; see `Estimation`.

    Returns:
        Estimate; see `stratified_sum` for cells with fewer than two samples (infinite standard errors, NaN values
        where a slice was not sampled yet).

    Raises:
        RequestError: shapes that do not fit, no complete pair, or a sampling without the slices.
    """
    sampled = contributions(measured(coalitions, utilities, units))
    slices = paper_slices(sampled.members.shape[1])
    check_sizes(sampled, slices, "ssv", "slices")
    mean = stratified_sum(sampled, dict.fromkeys(slices, 1 / len(slices)))
    used = sum(int((sampled.sizes == size).sum()) for size in slices)
    return Estimate(mean.values, mean.standard_errors(), "ssv", used)


SSV = Estimator(
    "ssv",
    ESTIMATORS.line("ssv"),
    "slices",
    sliced_shapley,
    also=("antithetic", "strata", "neyman", "permutation"),
)
