"""Estimators of head values: a registry by name, and one call that samples and estimates."""

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import Utility, evaluate
from cokv_bench.game.estimators.base import Estimate, Estimator, TooFewRowsError
from cokv_bench.game.sampling import get_sampling
from cokv_bench.registries import ESTIMATORS


def register_estimator(estimator: Estimator) -> None:
    """Add an estimator of one's own; its name must be new.

    Raises:
        RequestError: the name is taken.
    """
    ESTIMATORS.add(estimator.name, estimator.description, estimator)


def get_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        RequestError: no such estimator, with the nearest names.
    """
    return ESTIMATORS.get(name)


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
        raise RequestError(f"{samples} samples are too few; ask for at least one pair.")
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
    "register_estimator",
]
