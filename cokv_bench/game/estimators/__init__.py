"""Estimators of head values: a registry by name, and one call that samples and estimates."""

from cokv_bench.errors import RequestError, unknown
from cokv_bench.game.coalitions import Utility, evaluate
from cokv_bench.game.estimators.base import Estimate, Estimator
from cokv_bench.game.estimators.ridge import RIDGE
from cokv_bench.game.estimators.shapley import SHAPLEY
from cokv_bench.game.estimators.ssv import SSV
from cokv_bench.game.sampling import Plan

ESTIMATORS: dict[str, Estimator] = {estimator.name: estimator for estimator in (SSV, SHAPLEY, RIDGE)}


def get_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        RequestError: no such estimator, with the nearest names.
    """
    if name not in ESTIMATORS:
        raise unknown("estimator", name, ESTIMATORS)
    return ESTIMATORS[name]


def estimate(utility: Utility, players: int, estimator: str = "ssv", samples: int = 1000, seed: int = 0) -> Estimate:
    """Sample coalitions of a game and estimate the players' values.

    Args:
        utility: bool [coalitions, players] -> float [coalitions]; called with up to 4096 coalitions at a time.
        players: at least 1.
        estimator: a name of `ESTIMATORS`.
        samples: pairs (S, N without S) in total, spread evenly over the estimator's coalition sizes.
        seed: the same seed gives the same coalitions; with more samples it goes on after the same first ones.

    Returns:
        Estimate with `.values` and `.standard_errors`, float64 [players] each.

    Raises:
        RequestError: an unknown estimator, an argument out of range, or a utility with a wrong shape or
            a number that is not finite.
    """
    chosen = get_estimator(estimator)
    if samples < 1:
        raise RequestError(f"{samples} samples estimate nothing; ask for at least one pair.")
    coalitions = Plan(players, chosen.sizes(players), seed).coalitions(0, 2 * samples)
    return chosen.run(coalitions, evaluate(utility, coalitions))


__all__ = ["ESTIMATORS", "Estimate", "Estimator", "estimate", "get_estimator"]
