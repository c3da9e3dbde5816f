"""When long work ends, as it is asked for: the sampling of a game, and a search."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cokv_bench.errors import RequestError
from cokv_bench.option import Option
from cokv_bench.option import seconds as in_seconds

if TYPE_CHECKING:
    from cokv_bench.game.stability import Stability

_STOP = "When to stop (the first that is met)"
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

    samples: Annotated[
        int | None,
        Option(
            "Stop after this many pairs of a coalition and its complement. Default: 240, or no limit if another "
            "criterion is given.",
            _STOP,
        ),
    ] = None
    seconds: Annotated[
        float | None,
        Option("Stop after this time, such as 90s, 15m or 2h.", _STOP, name="time_limit", read=in_seconds),
    ] = None
    standard_error: Annotated[
        float | None,
        Option("Stop once the median standard error over heads is at most this.", _STOP, name="target_se"),
    ] = None
    rank_correlation: Annotated[
        float | None,
        Option(
            "Stop once the rankings of the heads by two halves of the ledger correlate by at least this.",
            _STOP,
            name="target_rank_correlation",
        ),
    ] = None
    published: Annotated[
        bool,
        Option(
            "Stop as CoKV does: once two halves of the ledger differ by less than 1/heads on average.",
            _STOP,
            name="published_stop",
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise RequestError(f"{self.samples} samples are too few; ask for at least one pair.")
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

    def met(self, rows: int, seconds: float, stability: "Stability", players: int) -> str | None:
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


#: Steps of a search where nothing else says when to stop.
DEFAULT_STEPS = 200


@dataclass(frozen=True)
class SearchLimits:
    """The first that is met stops; with nothing given 200 steps do.

    Attributes:
        steps: steps in the ledger.
        seconds: time of all calls together up to the last round (20 steps) of each; a call that was killed has lost
            what came after. Prompts are read by the first of several searches of one call, and count for it alone.

    Raises:
        RequestError: a number out of range.
    """

    steps: Annotated[
        int | None, Option("Number of steps. Default: 200, or no limit if there is a time limit.", _STOP)
    ] = None
    seconds: Annotated[
        float | None,
        Option(
            "Stop after this time over all calls, such as 90s, 15m or 2h.", _STOP, name="time_limit", read=in_seconds
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise RequestError(f"{self.steps} steps are too few; ask for at least one.")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise RequestError(f"The time limit is {self.seconds}; it must be above 0.")

    @property
    def last_step(self) -> int | None:
        """Steps at which a search ends; None where time alone ends it."""
        return DEFAULT_STEPS if self.steps is None and self.seconds is None else self.steps

    def progress(self, step: int, seconds: float) -> float:
        """How far a search is, from 0 to 1 and beyond."""
        by_steps = 0.0 if self.last_step is None else step / self.last_step
        by_time = 0.0 if self.seconds is None else seconds / self.seconds
        return max(by_steps, by_time)
