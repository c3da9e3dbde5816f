"""What an estimator is, and the measured rows that it reads."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.stats import norm, t

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray, complement_pairs

#: Where the upper tail of a 95% interval begins.
_UPPER = 0.975


class TooFewRowsError(RequestError):
    """A ledger that cannot be estimated yet; more rows of the same sampling mend it."""


@dataclass(frozen=True)
class Estimate:
    """Values of the players with their uncertainty.

    Attributes:
        values: float64 [players].
        standard_errors: float64 [players], from the sampling of coalitions: the value plus and minus 1.96 of them holds
            the true value 95 times in 100, on average over the players; inf where it cannot be told.
        estimator: name of the estimator.
        samples: complementary pairs of coalitions that were used.
    """

    values: FloatArray
    standard_errors: FloatArray
    estimator: str
    samples: int


class Estimation(Protocol):
    """How an estimator is called; it needs nothing else, so a ledger can be estimated again without the model."""

    def __call__(self, coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Estimate:
        """The estimate from measured rows.

        Args:
            coalitions: bool [m, players], in the order of the ledger.
            utilities: float [m].
            units: int [m], equal for rows that were sampled together and depend on each other. Unless given, a
                coalition and its complement, found by lookup, are a unit and every other row is its own.

        Raises:
            TooFewRowsError: rows that do not suffice yet.
            RequestError: shapes that do not fit, a utility that is not finite, or rows that no number of further ones
                of their kind would make sufficient; the sampling to use is named.
        """


@dataclass(frozen=True)
class Estimator:
    """One way from measured coalitions to values of the players.

    Attributes:
        name: as on the command line.
        description: one line.
        sampling: name of the sampling that it is meant for.
        run: rows -> Estimate.
        also: names of the other samplings that it can use.
    """

    name: str
    description: str
    sampling: str
    run: Estimation
    also: tuple[str, ...] = ()

    def check_sampling(self, name: str) -> None:
        """Refuse a sampling whose rows this estimator cannot use, before anything is measured.

        Raises:
            RequestError: not `sampling` nor one of `also`.
        """
        if name not in (self.sampling, *self.also):
            known = " or ".join((self.sampling, *self.also))
            raise RequestError(f"The estimator '{self.name}' cannot use the sampling '{name}'; sample with {known}.")


@dataclass(frozen=True)
class Measured:
    """Rows of a ledger, checked.

    Attributes:
        coalitions: bool [m, players].
        utilities: float64 [m].
        units: int64 [m], 0 to the number of units less 1.
        first, second: row numbers of S and of its complement, int64 [pairs] each, as `complement_pairs` finds them.
    """

    coalitions: BoolArray
    utilities: FloatArray
    units: IntArray
    first: IntArray
    second: IntArray

    @property
    def players(self) -> int:
        """Number of players."""
        return self.coalitions.shape[1]

    @property
    def sizes(self) -> IntArray:
        """Players of each coalition, int64 [m]."""
        counted: IntArray = self.coalitions.sum(axis=1, dtype=np.int64)
        return counted


def measured(coalitions: BoolArray, utilities: FloatArray, units: IntArray | None = None) -> Measured:
    """Check rows and complete their units; arguments and errors as of `Estimation`.

    Raises:
        TooFewRowsError: no row.
        RequestError: shapes that do not fit, or a utility that is not finite.
    """
    coalitions = np.asarray(coalitions, dtype=bool)
    utilities = np.asarray(utilities, dtype=np.float64)
    if coalitions.ndim != 2 or utilities.shape != coalitions.shape[:1]:
        raise RequestError(
            f"Coalitions {list(coalitions.shape)} and utilities {list(utilities.shape)} do not fit; "
            "expected [m, players] and [m]."
        )
    if units is not None and np.shape(units) != utilities.shape:
        raise RequestError(f"Units {list(np.shape(units))} do not fit {len(utilities)} coalitions; give one per row.")
    if not utilities.size:
        raise TooFewRowsError("No coalition was measured; sample at least one pair.")
    if not np.isfinite(utilities).all():
        raise RequestError("Utilities must be finite numbers.")
    first, second = complement_pairs(coalitions)
    if units is None:
        units = np.arange(len(utilities))
        units[second] = first
    return Measured(coalitions, utilities, np.unique(units, return_inverse=True)[1], first, second)


def sum_by_unit(values: FloatArray, units: IntArray) -> FloatArray:
    """Sums of the rows of each unit, float64 [units, ...] of float [m, ...]; units are 0 to their number less 1."""
    m = len(units)
    indicator = csr_array((np.ones(m), (units, np.arange(m))), shape=(int(units.max()) + 1, m))
    sums: FloatArray = indicator @ values
    return sums


def clustered_errors(scores: FloatArray) -> FloatArray:
    """Standard errors of estimates that are sums of independent parts with known mean zero, one part per unit.

    Args:
        scores: float [units, players], what each unit adds to the error of each value.

    Returns:
        float64 [players]; inf for a single unit.
    """
    units = len(scores)
    if units < 2:
        return np.full(scores.shape[1], np.inf)
    errors: FloatArray = np.sqrt(np.square(scores).sum(axis=0) * units / (units - 1)) * student(units - 1)
    return errors


def student(degrees: ArrayLike) -> FloatArray:
    """How many times wider than the normal 95% interval Student's is, in the shape of the degrees of freedom.

    An unbiased variance is not enough for intervals where few units tell it.
    """
    return np.asarray(t.ppf(_UPPER, degrees) / norm.ppf(_UPPER), dtype=np.float64)
