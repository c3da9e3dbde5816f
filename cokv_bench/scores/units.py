"""What the numbers of a run are: scores in percent, or a utility in its own unit. No figure and no table mixes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cokv_bench.scores.intervals import GAINS, SCORES, Bounds
from cokv_bench.units import NATS


@dataclass(frozen=True)
class Unit:
    """One kind of number.

    Attributes:
        key: in front of the links and file names of its figures.
        noun: what a number is, in small letters.
        plural: what several are.
        caption: of a table of them.
        axis: the label of an axis.
        gain: what differences are counted in.
        short: the same above a narrow column.
        decimals: in tables that are read.
        column: of the tidy table, whose file is called after it, such as scores.csv.
        digits: how numbers are written into files.
    """

    key: str
    noun: str
    plural: str
    caption: str
    axis: str
    gain: str
    short: str
    decimals: int
    column: str
    digits: str = "%.6g"

    @property
    def title(self) -> str:
        """The noun at the start of a sentence."""
        return capital(self.noun)

    @property
    def heading(self) -> str:
        """Above the tables of a run."""
        return {"score": "Scores", "logprob": "Log-probabilities"}.get(self.column, self.title)

    @property
    def file(self) -> str:
        """The name of its tidy table."""
        return f"{self.column}s.csv"

    def between(self, low: str, high: str) -> str:
        """An interval in a table; numbers that may be below zero have a word between them."""
        return f"{low}–{high}" if self is PERCENT else f"{low} to {high}"


def capital(words: str) -> str:
    """Words at the start of a sentence; the others stay as they are."""
    return words[:1].upper() + words[1:]


PERCENT = Unit("", "score", "scores", "Score in percent", "score (%)", "points", "points", 1, "score", "%.4f")
#: Noun and whose answers they are, of the utilities that are log-probabilities.
_LOG_PROBABILITIES = {
    "loglik": ("log-probability", "reference answers"),
    "agreement": ("log-probability of own answers", "the full cache's own answers"),
}


def unit_of(configuration: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Unit:
    """The unit of a run's tables: percent unless a utility was measured, else what its records name.

    Args:
        configuration: of the run.
        records: of the run, one or more, as `read_records` gives them.
    """
    utility = configuration.get("utility")
    if utility is None:
        return PERCENT
    unit = str(records[0]["unit"])
    key = "".join(each if each.isascii() and each.isalnum() else "-" for each in utility)
    if unit == NATS and utility in _LOG_PROBABILITIES:
        noun, of = _LOG_PROBABILITIES[utility]
        plural = f"log-probabilities of {of}"
        caption, axis = f"Log-probability of {of} in {NATS}", f"log-probability ({NATS})"
        return Unit(f"{key}-", noun, plural, caption, axis, NATS, "nats", 3, "logprob")
    named = f"{utility} ({unit})"
    return Unit(f"{key}-", utility, f"values of {utility}", capital(named), named, unit, unit, 3, "value")


@dataclass(frozen=True)
class Scale:
    """How the numbers of records become those of tables.

    Attributes:
        factor: from the one to the other.
        scores: least and greatest possible number of a table, None where there is no bound.
        gains: the same of a difference.
    """

    factor: float
    scores: Bounds | None
    gains: Bounds | None


_OF_SCORES, _OF_UTILITIES = Scale(100, SCORES, GAINS), Scale(1, None, None)


def scale_of(configuration: Mapping[str, Any]) -> Scale:
    """From fractions to percent for scores; a utility is what it is."""
    return _OF_SCORES if configuration.get("utility") is None else _OF_UTILITIES
