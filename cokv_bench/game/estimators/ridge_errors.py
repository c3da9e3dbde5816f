"""How far shrunken values are from the true ones: sampling error and bias together."""

import numpy as np

from cokv_bench.game.coalitions import FloatArray
from cokv_bench.game.estimators.leave_out import LevelledFit

#: Penalties over the mean squared length of a row: the ratio of what noise and heads put into a row.
_RATIOS = np.logspace(-6, 3, 46)
#: With fewer independent units than this nothing is known of how rows of a unit depend on each other.
_UNITS = 5
#: With fewer degrees of freedom than this part of the players the heads can pass for noise and noise for the heads.
_DEGREES = 2 / 3


def expected_errors(fit: LevelledFit, penalty: float, values: FloatArray) -> FloatArray:
    """Root of the expected squared distance between the values and the true ones, float64 [players].

    The heads' true values are taken for exchangeable: draws around zero with one variance, of which the part of the
    rows' variance that the heads explain is as likely to be any number from 0 to 1. At each ratio of noise to heads,
    which is a penalty, ridge regression gives the mean and the variance of a true value; ratios count as much as the
    rows make them likely. So the errors hold what shrinkage leaves out, and do not rest on one penalty being right.
    As an average over the heads: for those of the largest values, which shrink most, they are too small.

    Where rows depend on each other within their units, or their noise differs, the variances are as many times larger
    as what units add is larger (`LevelledFit.excess`), never less, and the rows count as that many times fewer.

    Args:
        fit: the rows; the true values sum to zero.
        penalty: the one of the values.
        values: float64 [players], the coefficients at that penalty.

    Returns:
        inf where it cannot be told: fewer than five units, fewer independent rows than two thirds of the players, or
        rows that do not tell heads apart.
    """
    players = values.size
    squares = fit.singular**2
    along = fit.left.T @ fit.target
    beyond = float(np.square(fit.target - fit.left @ along).sum())

    def left(at: float) -> float:
        """What is left of the target's square, weighted with the inverse of its covariance at that penalty."""
        return beyond + float((at / (squares + at) * along**2).sum())

    excess = 1.0
    if fit.degrees > 0:
        excess = max(1.0, fit.excess(penalty, left(penalty) / fit.degrees))
    degrees = fit.degrees / excess
    unmeasured = not fit.singular.size
    if unmeasured or fit.units.max() + 1 < _UNITS or degrees <= max(2, _DEGREES * players):
        return np.full(players, np.inf)
    if not fit.target.any():
        return np.zeros(players)
    # What no row measures, but for the sum, which is zero.
    outside = np.maximum(1 - 1 / players - np.square(fit.right).sum(axis=0), 0)
    row = float(np.square(fit.design).sum()) / len(fit.target)
    weights, errors = [], []
    for at in row * _RATIOS:
        likelihood = -0.5 * np.log1p(squares / at).sum() - 0.5 * fit.degrees * np.log(left(at))
        weights.append(likelihood / excess + np.log(row * at / (row + at) ** 2))
        # The noise is estimated, hence the variance of a t distribution.
        noise = left(at) / fit.degrees * excess * degrees / (degrees - 2)
        known = np.square(fit.right.T) @ (1 / (squares + at)) + outside / at
        errors.append(noise * known + np.square(fit.coefficients(at) - values))
    shares = np.exp(np.array(weights) - max(weights))
    expected: FloatArray = np.sqrt(shares @ np.array(errors) / shares.sum())
    return expected
