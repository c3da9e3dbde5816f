"""What the numbers of a run are: scores in percent, or log-probabilities in nats a token. No figure mixes them."""

from dataclasses import dataclass
from typing import Any


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
        decimals: in tables.
    """

    key: str
    noun: str
    plural: str
    caption: str
    axis: str
    gain: str
    short: str
    decimals: int

    @property
    def title(self) -> str:
        """The noun at the start of a sentence."""
        return capital(self.noun)

    def between(self, low: str, high: str) -> str:
        """An interval in a table; numbers that may be below zero have a word between them."""
        return f"{low}–{high}" if self is PERCENT else f"{low} to {high}"


def capital(words: str) -> str:
    """Words at the start of a sentence; the others stay as they are."""
    return words[:1].upper() + words[1:]


PERCENT = Unit("", "score", "scores", "Score in percent", "score (%)", "points", "points", 1)
_NATS = "nats a token"
#: Of the runs of `scripts/search_evidence.py`, by their utility.
_LOG_PROBABILITIES = {
    utility: Unit(
        f"{utility}-",
        noun,
        f"log-probabilities of {of}",
        f"Log-probability of {of} in {_NATS}",
        f"log-probability ({_NATS})",
        _NATS,
        "nats",
        3,
    )
    for utility, noun, of in (
        ("loglik", "log-probability", "reference answers"),
        ("agreement", "log-probability of own answers", "the full cache's own answers"),
    )
}


def unit_of(configuration: dict[str, Any]) -> Unit | None:
    """The unit of a run's records: percent unless a utility was measured; None for one that is not known here."""
    utility = configuration.get("utility")
    return PERCENT if utility is None else _LOG_PROBABILITIES.get(utility)
