"""Estimators of head values: a registry by name, and one call that samples and estimates."""

import numpy as np

from cokv_bench.errors import RequestError, unknown
from cokv_bench.game.coalitions import Utility, evaluate
from cokv_bench.game.estimators.banzhaf import BANZHAF
from cokv_bench.game.estimators.base import Estimate, Estimator, TooFewRowsError
from cokv_bench.game.estimators.cc import CC
from cokv_bench.game.estimators.kernelshap import KERNELSHAP
from cokv_bench.game.estimators.permutation import PERMUTATION
from cokv_bench.game.estimators.ridge import RIDGE
from cokv_bench.game.estimators.shapley import SHAPLEY
from cokv_bench.game.estimators.ssv import SSV
from cokv_bench.game.sampling import get_sampling

ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator for estimator in (SSV, CC, SHAPLEY, PERMUTATION, KERNELSHAP, BANZHAF, RIDGE)
}


def get_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        RequestError: no such estimator, with the nearest names.
    """
    if name not in ESTIMATORS:
        raise unknown("estimator", name, ESTIMATORS)
    return ESTIMATORS[name]


def estimate(
    utility: Utility,
    players: int,
    estimator: str = "ssv",
    samples: int = 1000,
    seed: int = 0,
    sampling: str | None = None,
) -> Estimate:
    """Sample coalitions of a game and estimate the players' values.

    Args:
        utility: bool [coalitions, players] -> float [coalitions]; called with up to 4096 coalitions at a time.
        players: at least 1.
        estimator: a name of `ESTIMATORS`.
        samples: pairs (S, N without S) in total, which is 2 * samples evaluations.
        seed: the same seed gives the same coalitions; with more samples it goes on after the same first ones.
        sampling: a name of `SAMPLINGS`; the one that the estimator is meant for unless given.

    Returns:
        Estimate with `.values` and `.standard_errors`, float64 [players] each.

    Raises:
        TooFewRowsError: fewer samples than the estimator needs to say anything.
        RequestError: an unknown estimator or sampling, two that do not go together, an argument out of
            range, or a utility with a wrong shape or a number that is not finite.
    """
    chosen = get_estimator(estimator)
    name = chosen.sampling if sampling is None else sampling
    plan = get_sampling(name).plan(players, seed)
    chosen.check_sampling(name)
    if samples < 1:
        raise RequestError(f"{samples} samples estimate nothing; ask for at least one pair.")
    rows = 2 * samples
    pilot_rows = min(rows, plan.pilot_rows)
    coalitions = plan.coalitions(0, pilot_rows)
    pilot = evaluate(utility, coalitions)
    later = plan.coalitions(pilot_rows, rows, pilot)
    utilities = np.concatenate([pilot, evaluate(utility, later)])
    return chosen.run(np.concatenate([coalitions, later]), utilities, plan.units(0, rows))


__all__ = [
    "ESTIMATORS",
    "Estimate",
    "Estimator",
    "TooFewRowsError",
    "estimate",
    "get_estimator",
]
