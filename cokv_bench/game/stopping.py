"""When to stop sampling coalitions."""

import math
from dataclasses import dataclass
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.game.stability import Stability

#: Pairs of coalitions where nothing else says when to stop.
DEFAULT_SAMPLES = 240


@dataclass(frozen=True)
class Stopping:
    """Whatever is given; the first that is met stops, and with nothing given 240 pairs do.

    Attributes:
        samples: pairs of a coalition and its complement in the ledger (two rows each).
        seconds: time of this call; what an earlier, stopped call took does not count.
        standard_error: median over the heads of the standard error, in units of the utility.
        rank_correlation: Spearman correlation between the values of the two halves of the ledger.
        published: CoKV's rule (arXiv 2502.17501): the mean absolute difference between two runs, here the two halves
            of the ledger, is below 1/players.

    Raises:
        RequestError: a number out of range.
    """

    samples: int | None = None
    seconds: float | None = None
    standard_error: float | None = None
    rank_correlation: float | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise RequestError(f"{self.samples} samples estimate nothing; ask for at least one pair.")
        for what, value in (("time limit", self.seconds), ("target standard error", self.standard_error)):
            if value is not None and not 0 < value < math.inf:
                raise RequestError(f"The {what} is {value}; it must be above 0.")
        if self.rank_correlation is not None and not 0 < self.rank_correlation < 1:
            raise RequestError(f"The target rank correlation is {self.rank_correlation}; it must be between 0 and 1.")

    @property
    def rows(self) -> int | None:
        """Rows of the ledger at which sampling ends whatever the targets say; None for no such end."""
        only = self.seconds is None and self.standard_error is None and self.rank_correlation is None
        samples = DEFAULT_SAMPLES if self.samples is None and only and not self.published else self.samples
        return None if samples is None else 2 * samples

    def met(self, rows: int, seconds: float, stability: Stability, players: int) -> str | None:
        """The name of the first criterion that is met, None where none is."""
        if self.rows is not None and rows >= self.rows:
            return "samples"
        if self.standard_error is not None and stability.standard_error <= self.standard_error:
            return "standard error"
        if self.rank_correlation is not None and stability.rank_correlation >= self.rank_correlation:
            return "rank correlation"
        if self.published and stability.mean_absolute_difference < 1 / players:
            return "mean absolute difference"
        if self.seconds is not None and seconds >= self.seconds:
            return "time limit"
        return None


def status(stability: Stability, players: int, stopped_by: str, sampling: str) -> dict[str, Any]:
    """How far a ledger has come, for the file of head values; null where a number is not known."""
    numbers = {
        "standard_error": stability.standard_error,
        "rank_correlation": stability.rank_correlation,
        "reliability": stability.reliability,
        "mean_absolute_difference": stability.mean_absolute_difference,
        "published_threshold": 1 / players,
    }
    known = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return {"sampling": sampling, "stopped_by": stopped_by, **known}


def note(stability: Stability, players: int) -> str:
    """The same in one line, for the progress."""
    return (
        f"standard error {stability.standard_error:.4f}, halves: rank correlation {stability.rank_correlation:.2f}, "
        f"difference {stability.mean_absolute_difference:.4f} (published rule: below {1 / players:.4f})"
    )
