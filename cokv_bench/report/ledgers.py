"""What a profile's ledger says of each estimator at growing lengths, by estimating its first coalitions again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game import ESTIMATORS, Ledger, get_sampling, stability
from cokv_bench.report.figures import Number, known

LEDGER = "ledger.jsonl"
#: Each length is half of the next, so that all of them together cost less than twice the last.
_LENGTHS = 7


@dataclass(frozen=True)
class Growth:
    """One estimator on a growing ledger.

    Attributes:
        pairs: lengths, in pairs of coalitions, rising.
        rank_correlation: Spearman's, between the values of the ledger's halves; None where a half says nothing yet.
        standard_error: the median over the heads; None where it cannot be told.
    """

    pairs: tuple[float, ...]
    rank_correlation: tuple[Number, ...]
    standard_error: tuple[Number, ...]


@dataclass(frozen=True)
class Grown:
    """A ledger: its sampling and utility, and what each estimator that can use the sampling made of it, by name."""

    sampling: str
    utility: str
    estimators: dict[str, Growth]


def read_growth(folder: Path) -> Grown:
    """Estimate the head values of a profile's folder from its first coalitions, as they were when it had no more.

    Raises:
        RequestError: the folder has no ledger, or one that is damaged, empty or of an unknown sampling.
    """
    path = folder / LEDGER
    ledger = Ledger.read(path)
    if not ledger.done:
        raise RequestError(f"{path} holds no coalition yet; resume the profile.")
    ledger.refuse_gaps()
    header = ledger.header
    sampling = str(header.config.get("sampling"))
    units = get_sampling(sampling).plan(header.count, header.seed).units(0, len(ledger.done))
    coalitions, sizes = ledger.coalitions(), ledger.sizes()
    utilities = ledger.utilities().mean(axis=1)
    estimators = {}
    for estimator in ESTIMATORS.values():
        if sampling not in (estimator.sampling, *estimator.also):
            continue
        pairs, correlations, errors = [], [], []
        for rows in _lengths(units):
            _, found = stability(estimator, coalitions[:rows], utilities[:rows], units[:rows], sizes[:rows])
            pairs.append(rows / 2)
            correlations.append(known(found.rank_correlation))
            errors.append(known(found.standard_error))
        estimators[estimator.name] = Growth(tuple(pairs), tuple(correlations), tuple(errors))
    return Grown(sampling, header.utility, estimators)


def _lengths(units: np.ndarray) -> list[int]:
    """Rows of a ledger's beginnings, rising to all of it; none of them ends inside a unit."""
    wanted = [len(units) >> step for step in range(1, _LENGTHS)]
    return sorted({int(np.searchsorted(units, units[rows])) for rows in wanted} - {0} | {len(units)})
