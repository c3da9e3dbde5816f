"""Neyman allocation: after a pilot, sizes are sampled as often as their spread deserves."""

from typing import Any

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import FloatArray, IntArray
from cokv_bench.game.sampling.base import PairPlan, Seeded, row_numbers
from cokv_bench.game.sampling.sizes import all_strata

#: The pilot has at least this many pairs, and never less than one of every size.
_PILOT_PAIRS = 64
#: A spread is taken from at least this many degrees of freedom; neighbouring sizes help out.
_DEGREES = 7
#: No size gets less than this part of an equal share: a pilot may miss what is rare.
_FLOOR = 0.1
#: 2**64 divided by the golden ratio: multiples of it, modulo 2**64, fill the range most evenly at any time.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class NeymanPlan(Seeded, PairPlan):
    """Independent pairs, first in turn over all sizes (the pilot), then in proportion to the spread of a size.

    The allocation minimises the sum over the players of the variance of the stratified Shapley value (Zhang et al.,
    SIGMOD 2023, derive it for their estimator). For a folded size f = min(|S|, n - |S|) with m pairs, player i is in
    the coalition of size f of m f/n pairs and in its complement in the others, and informs its strata f and n - f
    with them. With v and w the variances of c(S) over the coalitions of size f with and without i, the size adds

        (n/f v + n/(n - f) w) / m

    to n**2 times the variance of player i. v and w are less than the variance s**2 of all coalitions of size f, because
    they leave out what i itself is worth (for f = 1 nothing remains of v). For an additive c they are, mean over i,

        v = s**2 (f - 1) n / (f (n - 1)),    w = s**2 (n - f - 1) n / ((n - f)(n - 1)).

    At f = n/2 there is one stratum, and all m pairs inform it: the size adds v / m. Pairs are best spread in proportion
    to the root of what m divides.

    After the pilot the sizes follow a golden-ratio sequence through the cumulated shares, so that any prefix is
    within a few pairs of the allocation; |S| = f there. The full coalition needs no second measurement. The pilot
    counts in the estimate, and its pairs are spread evenly.
    """

    @property
    def pilot_rows(self) -> int:
        """Whole rounds over all sizes: 64 pairs, or one pair of every size where there are more players."""
        return 2 * self.players * -(-_PILOT_PAIRS // self.players)

    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """The size each row was sampled for, int64 [stop - start].

        Raises:
            RequestError: rows beyond the pilot without its utilities.
        """
        rows = row_numbers(start, stop)
        sizes = np.array(all_strata(self.players))[rows // 2 % self.players]
        later = rows >= self.pilot_rows
        if later.any():
            shares = self.shares(pilot)
            steps = (rows[later] - self.pilot_rows).astype(np.uint64) // np.uint64(2) + np.uint64(1)
            places = (steps * _GOLDEN).astype(np.float64) / 2.0**64
            # The last share ends at 1 whatever was lost in the sum.
            sizes[later] = 1 + np.searchsorted(np.cumsum(shares)[:-1], places, side="right")
        return sizes

    def shares(self, pilot: FloatArray | None) -> FloatArray:
        """The part of the later pairs that each folded size 1 to max(1, players // 2) gets, float64 [sizes], sum 1.

        Args:
            pilot: float [pilot_rows], mean utilities of the rows of the pilot.

        Raises:
            RequestError: no utilities, or not one finite number for each row of the pilot.
        """
        variances = self._variances(self._checked(pilot))
        folds = np.arange(1, variances.size + 1)
        others = np.maximum(self.players - folds, 1)
        parts = (folds - 1) / folds**2 + (others - 1) / others**2
        # One stratum in place of two, and informed by every pair in place of half of them.
        parts[2 * folds == self.players] /= 4
        weights = np.sqrt(variances * parts)
        if not weights.any():
            return np.full(folds.size, 1 / folds.size)
        shares: FloatArray = np.maximum(weights / weights.sum(), _FLOOR / folds.size)
        return shares / shares.sum()

    def config(self) -> dict[str, Any]:
        """Name, sizes and length of the pilot."""
        return {"sampling": "neyman", "sizes": list(all_strata(self.players)), "pilot_rows": self.pilot_rows}

    def _checked(self, pilot: FloatArray | None) -> FloatArray:
        utilities = np.asarray([] if pilot is None else pilot, dtype=np.float64)
        if utilities.shape != (self.pilot_rows,) or not np.isfinite(utilities).all():
            raise RequestError(
                f"The rows of a neyman plan from {self.pilot_rows} on depend on its pilot; "
                f"give the finite utilities of rows 0 to {self.pilot_rows - 1} as one array."
            )
        return utilities

    def _variances(self, utilities: FloatArray) -> FloatArray:
        """Variance of c(S) at each folded size from the pilot, float64 [max(1, players // 2)]."""
        contributions = utilities[0::2] - utilities[1::2]
        sizes = self.row_sizes(0, self.pilot_rows)[0::2]
        # The member of the pair with the folded size has c of opposite sign where it is the complement.
        contributions = np.where(2 * sizes > self.players, -contributions, contributions)
        folds = np.minimum(sizes, self.players - sizes)
        length = max(2, self.players // 2 + 1)
        counts = np.bincount(folds, minlength=length)
        means = np.bincount(folds, contributions, length) / np.maximum(counts, 1)
        squares = np.bincount(folds, (contributions - means[folds]) ** 2, length).astype(np.float64)
        return _pooled(squares[1:], np.maximum(counts[1:] - 1.0, 0.0))


def _pooled(squares: FloatArray, degrees: FloatArray) -> FloatArray:
    """Variances from sums of squares, each with as many neighbours on both sides as give enough degrees of freedom."""
    for reach in range(degrees.size):
        window = np.ones(2 * reach + 1)
        pooled = np.convolve(degrees, window)[reach : reach + degrees.size]
        if pooled.min() >= _DEGREES:
            break
    sums = np.convolve(squares, window)[reach : reach + degrees.size]
    variances: FloatArray = sums / np.maximum(pooled, 1)
    return variances
