"""Shapley values as mean marginal contributions along random orders (Castro et al., 2009)."""

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import (
    Estimate,
    Estimator,
    Measured,
    TooFewRowsError,
    clustered_errors,
    measured,
)
from cokv_bench.registries import ESTIMATORS

#: In a unit sorted by size, with two coalitions of each, the next larger coalition is at most so many rows on.
_REACH = 3


def permutation_shapley(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
    """Mean over walks of U(S with i) - U(S), S being those who came before i; unbiased.

    A walk and its reverse (antithetic: who comes early in the one comes late in the other) are one unit, of which the
    mean is taken; the standard errors are those of a mean over units. A unit that is not complete is not used, since
    the players it has reached so far are there at some sizes only.

    Args:
        coalitions: bool [m, players].
        utilities: float [m].
        units: int [m], one number for each walk with its reverse; the sampling plan gives them.

    Returns:
        Estimate; standard errors are infinite for a single unit.

    Raises:
        TooFewRowsError: not one complete unit.
        RequestError: shapes that do not fit, or rows that are no walks.
    """
    rows = measured(coalitions, utilities, units)
    players = rows.players
    sums, counts = _marginals(rows)
    complete = (
        (np.bincount(rows.units) == 2 * players) & (counts > 0).all(axis=1) & (counts == counts[:, :1]).all(axis=1)
    )
    if not complete.any():
        # A walk has its first step by its fourth row; a ledger without a step then is of another sampling.
        error = TooFewRowsError if counts.any() or len(rows.utilities) < 4 else RequestError
        raise error(
            "The rows hold no complete walk along an order and its reverse; "
            f"sample at least {players} pairs with permutation and give the units of the rows."
        )
    means = sums[complete] / counts[complete]
    values = means.mean(axis=0)
    errors = clustered_errors((means - values) / len(means))
    used = int(complete[rows.units[rows.first]].sum())
    return Estimate(values, errors, "permutation", used)


def _marginals(rows: Measured) -> tuple[FloatArray, IntArray]:
    """Sum and number of the marginal contributions of each player in each unit, [units, players] each."""
    order = np.lexsort((rows.sizes, rows.units))
    shape = (int(rows.units.max()) + 1, rows.players)
    sums, counts = np.zeros(shape[0] * shape[1]), np.zeros(shape[0] * shape[1], dtype=np.int64)
    for reach in range(1, _REACH + 1):
        small, large = order[:-reach], order[reach:]
        near = (rows.units[small] == rows.units[large]) & (rows.sizes[small] + 1 == rows.sizes[large])
        small, large = small[near], large[near]
        joined = rows.coalitions[large] & ~rows.coalitions[small]
        # One player larger and one player not in the smaller: the others are those of the smaller.
        nested = joined.sum(axis=1) == 1
        small, large = small[nested], large[nested]
        cells = rows.units[small] * rows.players + joined[nested].argmax(axis=1)
        sums += np.bincount(cells, rows.utilities[large] - rows.utilities[small], sums.size)
        counts += np.bincount(cells, minlength=counts.size)
    return sums.reshape(shape), counts.reshape(shape)


PERMUTATION = Estimator("permutation", ESTIMATORS.line("permutation"), "permutation", permutation_shapley)
