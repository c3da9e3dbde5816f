"""What a sampling plan is, and what the plans made of random orders and complementary pairs share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.sampling.sizes import check_players

_WORDS_PER_BLOCK = 4  # a Philox4x64 counter step gives four 64-bit words


class SamplingPlan(Protocol):
    """An endless seeded sequence of coalitions, numbered k = 0, 1, 2, ...

    A row depends on (players, sampling, seed, k) alone, and beyond `pilot_rows` on the utilities of the pilot as well;
    never on how many rows are asked for, how they are batched or who measures them. So a run is extended by going on
    where it stopped. Every method that may need the pilot takes `pilot`, float [pilot_rows]: the mean
    utilities of rows 0 to pilot_rows - 1. Plans without a pilot do not look at it.
    """

    @property
    def players(self) -> int:
        """Number of players."""

    @property
    def seed(self) -> int:
        """0 to 2**64 - 1."""

    @property
    def pilot_rows(self) -> int:
        """Rows that must be measured before any later one is known; 0 where there is no pilot."""

    def coalitions(self, start: int, stop: int, pilot: FloatArray | None = None) -> BoolArray:
        """Rows start to stop - 1, bool [stop - start, players].

        Raises:
            RequestError: a range that does not exist, or rows beyond the pilot without its utilities.
        """

    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """The size each row was sampled for, int64 [stop - start]: |S| for S and its complement, 0 if none was fixed.

        Raises:
            RequestError: as `coalitions`.
        """

    def units(self, start: int, stop: int) -> IntArray:
        """The unit of each row, int64 [stop - start]; rows of a unit depend on each other, units do not.

        Raises:
            RequestError: a range that does not exist.
        """

    def config(self) -> dict[str, Any]:
        """What identifies the plan besides players and seed, as JSON can hold it; `sampling` is its name."""


class UnitPlan(ABC):
    """Units, for plans whose units all have the same number of rows.

    Attributes:
        players: number of players.
        seed: seed of the plan.
    """

    players: int
    seed: int

    @property
    def pilot_rows(self) -> int:
        """No pilot."""
        return 0

    @property
    def unit_rows(self) -> int:
        """Rows of a unit: a coalition and its complement."""
        return 2

    @abstractmethod
    def coalitions(self, start: int, stop: int, pilot: FloatArray | None = None) -> BoolArray:
        """Rows start to stop - 1, bool [stop - start, players]."""

    @abstractmethod
    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """The size each row was sampled for, int64 [stop - start]."""

    def units(self, start: int, stop: int) -> IntArray:
        """The unit of each row, int64 [stop - start]."""
        return row_numbers(start, stop) // self.unit_rows


class PairPlan(UnitPlan):
    """Rows 2p and 2p + 1 are S and its complement; S is cut from a random order of the players, one order a unit."""

    def coalitions(self, start: int, stop: int, pilot: FloatArray | None = None) -> BoolArray:
        """Rows start to stop - 1, bool [stop - start, players]."""
        rows = row_numbers(start, stop)
        sizes = self.row_sizes(start, stop, pilot)
        first = start // self.unit_rows
        ranks = random_ranks(self.players, self.seed, first, -(-stop // self.unit_rows))
        inside = self._cut(ranks[self.units(start, stop) - first], sizes[:, None], rows[:, None])
        complements: BoolArray = inside ^ (rows % 2 == 1)[:, None]
        return complements

    def _cut(self, ranks: IntArray, sizes: IntArray, rows: IntArray) -> BoolArray:
        """S from the place of each player in the order, [m, players]; sizes and row numbers are [m, 1]."""
        return ranks < sizes


@dataclass(frozen=True)
class Seeded:
    """A plan that players and seed decide.

    Attributes:
        players: number of players.
        seed: 0 to 2**64 - 1.

    Raises:
        RequestError: an attribute out of range.
    """

    players: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_plan(self.players, self.seed)


def random_words(seed: int, first: int, last: int, words: int) -> np.ndarray:
    """Random bits of items first to last - 1, uint64 [last - first, words]; an item's bits depend on nothing else."""
    # The bits of a numpy bit generator are guaranteed from release to release; its shuffles are not.
    blocks = -(-words // _WORDS_PER_BLOCK)
    stream = np.random.Philox(key=seed, counter=first * blocks)
    width = blocks * _WORDS_PER_BLOCK
    drawn: np.ndarray = stream.random_raw((last - first) * width).reshape(last - first, width)[:, :words]
    return drawn


def random_ranks(players: int, seed: int, first: int, last: int) -> IntArray:
    """Random orders number first to last - 1: the place of each player, int64 [last - first, players]."""
    order = np.argsort(random_words(seed, first, last, players), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(players), axis=1)
    return ranks


def row_numbers(start: int, stop: int) -> IntArray:
    """start to stop - 1.

    Raises:
        RequestError: no such range.
    """
    if not 0 <= start <= stop:
        raise RequestError(f"Rows {start} to {stop} of a sampling plan do not exist.")
    return np.arange(start, stop, dtype=np.int64)


def check_plan(players: int, seed: int) -> None:
    """Raises RequestError for a number of players or a seed out of range."""
    check_players(players)
    if not 0 <= seed < 2**64:
        raise RequestError(f"The seed is {seed}; it must be from 0 to 2**64 - 1.")
