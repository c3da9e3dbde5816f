"""Complementary contributions and their stratified mean, which several estimators share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import comb

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.estimators.base import Measured, TooFewRowsError, student, sum_by_unit


@dataclass(frozen=True)
class Contributions:
    """Complementary contributions c(S) = U(S) - U(N without S).

    Attributes:
        members: S, bool [m, players].
        sizes: |S|, int64 [m].
        values: c(S), float64 [m].
        units: unit of the pair, int64 [m].
    """

    members: BoolArray
    sizes: IntArray
    values: FloatArray
    units: IntArray

    def both_sides(self) -> "Contributions":
        """Every pair twice, as S with c(S) and as its complement with c(N without S) = -c(S), in the same unit."""
        return Contributions(
            np.concatenate([self.members, ~self.members]),
            np.concatenate([self.sizes, self.members.shape[1] - self.sizes]),
            np.concatenate([self.values, -self.values]),
            np.concatenate([self.units, self.units]),
        )


def contributions(rows: Measured) -> Contributions:
    """The pairs of a ledger; S is the coalition of a pair that was listed first, and the unit is that of S.

    Raises:
        TooFewRowsError: not one complete pair.
    """
    if not rows.first.size:
        raise TooFewRowsError("No coalition was measured together with its complement; sample at least one pair.")
    return Contributions(
        rows.coalitions[rows.first],
        rows.sizes[rows.first],
        rows.utilities[rows.first] - rows.utilities[rows.second],
        rows.units[rows.first],
    )


def check_sizes(sampled: Contributions, sizes: Iterable[int], estimator: str, samplings: str) -> None:
    """Refuse pairs of a sampling that leaves out sizes an estimator needs.

    Too few pairs leave out sizes as well, but twice as many coalitions as there are players have seen every size of any
    plan whose sizes take turns.

    Raises:
        RequestError: so many coalitions and still a size that none of them has.
    """
    absent = sorted(set(sizes) - set(sampled.sizes.tolist()))
    if absent and sampled.values.size >= 2 * sampled.members.shape[1]:
        shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        raise RequestError(
            f"No pair was sampled for the coalition sizes {shown}, which the estimator '{estimator}' needs; "
            f"sample with {samplings}."
        )


@dataclass(frozen=True)
class Stratified:
    """A weighted sum over strata of each player's mean contribution.

    Attributes:
        values: float64 [players].
        scores: float64 [units, players]; what each unit adds to the error of each value. The sum of their squares over
            the units is the variance.
        degrees: float64 [players], degrees of freedom of that variance; inf where it is zero.
        unknown: bool [players]; True where the error cannot be told.
    """

    values: FloatArray
    scores: FloatArray
    degrees: FloatArray
    unknown: BoolArray

    def standard_errors(self) -> FloatArray:
        """float64 [players]; inf where unknown."""
        known = np.sqrt(np.square(self.scores).sum(axis=0)) * student(np.where(self.unknown, np.inf, self.degrees))
        errors: FloatArray = np.where(self.unknown, np.inf, known)
        return errors


def stratified_sum(sampled: Contributions, weights: Mapping[int, float]) -> Stratified:
    """Sum over the strata of weight times each player's mean contribution, with its error.

    A cell is a player and a stratum: the c(S) with the player in S and |S| = stratum. Where every pair is a unit of its
    own the error of a cell is the sample variance over the count; in general that of a mean over units, and units that
    inform several cells are counted as one. A cell with a single unit tells no variance and makes the player's error
    infinite, except where it holds one coalition only ({i} or N): that single number is exact. For a cell without
    samples the mean of its stratum stands in ("no evidence that this player differs"), and the error is infinite too.
    A stratum without samples leaves the values unknown: NaN, with infinite error.

    The degrees of freedom are Satterthwaite's, of a sum of independent variances with as many less one as the cell has
    units, and at most as many less one as units inform the player in all: units may inform several strata.

    Args:
        sampled: contributions; those of sizes without a weight are not used.
        weights: of each stratum (coalition size).
    """
    players = sampled.members.shape[1]
    values = np.zeros(players)
    scores = np.zeros((int(sampled.units.max()) + 1, players))
    unknown = np.zeros(players, dtype=bool)
    informed = np.zeros(scores.shape, dtype=bool)
    variances, spreads = np.zeros(players), np.zeros(players)
    for stratum, weight in weights.items():
        chosen = sampled.sizes == stratum
        if not chosen.any():
            values[:], unknown[:] = np.nan, True
            continue
        inside = sampled.members[chosen].astype(np.float64)  # [pairs, players]
        c = sampled.values[chosen]
        units, places = np.unique(sampled.units[chosen], return_inverse=True)
        counts = inside.sum(axis=0)
        there = sum_by_unit(inside, places) > 0
        present = np.count_nonzero(there, axis=0)
        means = np.where(counts > 0, c @ inside / np.maximum(counts, 1), c @ inside.sum(axis=1) / counts.sum())
        gaps = sum_by_unit((c[:, None] - means) * inside, places) / np.maximum(counts, 1)
        values += weight * means
        added = weight * np.sqrt(present / np.maximum(present - 1, 1)) * gaps
        scores[units] += added
        informed[units] |= there
        variance = np.square(added).sum(axis=0)
        variances += variance
        spreads += variance**2 / np.maximum(present - 1, 1)
        single = comb(players - 1, stratum - 1) == 1
        unknown |= (present == 0) if single else (present < 2)
    degrees = np.full(players, np.inf)
    np.divide(variances**2, spreads, out=degrees, where=spreads > 0)
    degrees = np.where(spreads > 0, np.minimum(degrees, np.maximum(informed.sum(axis=0) - 1, 1)), np.inf)
    return Stratified(values, scores, degrees, unknown)
