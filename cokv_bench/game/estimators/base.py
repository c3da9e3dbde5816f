"""What an estimator is, and the stratified mean that the estimators of this package share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray, complement_pairs


@dataclass(frozen=True)
class Estimate:
    """Values of the players with their uncertainty.

    Attributes:
        values: float64 [players].
        standard_errors: float64 [players], from the sampling of coalitions alone; inf where it cannot be told.
        estimator: name of the estimator.
        samples: complementary pairs of coalitions that were used.
    """

    values: FloatArray
    standard_errors: FloatArray
    estimator: str
    samples: int


@dataclass(frozen=True)
class Estimator:
    """One way from measured coalitions to values of the players.

    Attributes:
        name: as on the command line.
        description: one line.
        sizes: players -> coalition sizes its sampling plan goes through in turn.
        run: (coalitions bool [m, players], utilities float [m]), in the order of the ledger, -> Estimate. It needs
            nothing else, so that a ledger can be estimated again, by any estimator, without the model.
    """

    name: str
    description: str
    sizes: Callable[[int], tuple[int, ...]]
    run: Callable[[BoolArray, FloatArray], Estimate]


@dataclass(frozen=True)
class Contributions:
    """Complementary contributions c(S) = U(S) - U(N without S), one a pair.

    Attributes:
        members: S, bool [pairs, players].
        sizes: |S|, int64 [pairs].
        values: c(S), float64 [pairs].
    """

    members: BoolArray
    sizes: IntArray
    values: FloatArray


def contributions(coalitions: BoolArray, utilities: FloatArray) -> Contributions:
    """The pairs of a ledger; S is the coalition of a pair that was listed first.

    Args:
        coalitions: bool [m, players].
        utilities: float [m].

    Raises:
        RequestError: shapes that do not fit, a utility that is not finite, or not one complete pair.
    """
    coalitions = np.asarray(coalitions, dtype=bool)
    utilities = np.asarray(utilities, dtype=np.float64)
    if coalitions.ndim != 2 or utilities.shape != coalitions.shape[:1]:
        raise RequestError(
            f"Coalitions {list(coalitions.shape)} and utilities {list(utilities.shape)} do not fit; "
            "expected [m, players] and [m]."
        )
    if not np.isfinite(utilities).all():
        raise RequestError("Utilities must be finite numbers.")
    first, second = complement_pairs(coalitions)
    if first.size == 0:
        raise RequestError("No coalition was measured together with its complement; sample at least one pair.")
    members = coalitions[first]
    return Contributions(members, members.sum(axis=1), utilities[first] - utilities[second])


def stratified_mean(sampled: Contributions, strata: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Mean over the strata of each player's mean contribution, with its standard error.

    A cell is a player and a stratum: the c(S) with the player in S and |S| = stratum. Its error is the sample variance
    over the count. One sample tells no variance, so such a cell makes the player's error infinite, except
    where the cell holds one coalition only ({i} or N): that single number is exact. For a cell without samples the
    mean of its stratum stands in ("no evidence that this player differs"), and the error is infinite too.
    A stratum without samples leaves the value unknown: NaN, with infinite error.

    Args:
        sampled: contributions; those of sizes outside `strata` are not used.
        strata: coalition sizes.

    Returns:
        values and standard errors, float64 [players] each.
    """
    players = sampled.members.shape[1]
    values = np.zeros(players)
    variances = np.zeros(players)
    for stratum in strata:
        chosen = sampled.sizes == stratum
        inside = sampled.members[chosen].astype(np.float64)  # [pairs, players]
        c = sampled.values[chosen]
        counts = inside.sum(axis=0)
        level = c @ inside.sum(axis=1) / counts.sum() if chosen.any() else np.nan
        means = np.where(counts > 0, c @ inside / np.maximum(counts, 1), level)
        squares = ((c[:, None] - means) ** 2 * inside).sum(axis=0)
        known = np.where(counts > 1, squares / np.maximum(counts - 1, 1) / np.maximum(counts, 1), np.inf)
        if comb(players - 1, stratum - 1) == 1:
            known[counts == 1] = 0.0
        values += means
        variances += known
    return values / len(strata), np.sqrt(variances) / len(strata)
