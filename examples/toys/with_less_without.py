"""A toy estimator: the mean utility of the coalitions that have a head, less that of those that do not."""

import numpy as np

from cokv_bench.game import Estimate, Estimator, TooFewRowsError, register_estimator
from cokv_bench.game.estimators.base import clustered_errors, measured, sum_by_unit

NAME = "with-less-without"


def with_less_without(coalitions, utilities, units=None):
    """The values with their standard errors, float64 [players] each."""
    rows = measured(coalitions, utilities, units)
    inside = rows.coalitions  # bool [coalitions, players]
    counts = np.stack([inside.sum(axis=0), (~inside).sum(axis=0)])
    if counts.min() < 2:
        raise TooFewRowsError("Each head must be in two coalitions and out of two; sample more pairs.")
    worth = rows.utilities[:, None]
    means = np.stack([(worth * inside).sum(axis=0), (worth * ~inside).sum(axis=0)]) / counts
    # What each coalition adds to the error, summed over those that were drawn together.
    parts = np.where(inside, (worth - means[0]) / counts[0], (means[1] - worth) / counts[1])
    errors = clustered_errors(sum_by_unit(parts, rows.units))
    return Estimate(means[0] - means[1], errors, NAME, len(rows.first))


register_estimator(
    Estimator(
        NAME,
        "mean utility with a head less that without it (a toy)",
        "uniform",
        with_less_without,
        also=("slices", "strata", "antithetic"),
    )
)
