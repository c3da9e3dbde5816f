"""Plans whose coalition sizes take turns: independent pairs, antithetic pairs, and walks."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.sampling.base import PairPlan, Seeded, check_plan, row_numbers
from cokv_bench.game.sampling.sizes import all_strata, paper_slices


@dataclass(frozen=True)
class SizesPlan(PairPlan):
    """Independent pairs: rows 2p and 2p + 1 are the p-th sampled S and its complement.

    S is uniform among the coalitions of its size. The sizes take turns, so any number of pairs is spread evenly
    and the first sizes get the remainder.

    Attributes:
        players: number of players.
        sizes: |S| of the pairs, in turn; each 1 to `players`.
        seed: 0 to 2**64 - 1.
        sampling: name of the choice of sizes.

    Raises:
        RequestError: an attribute out of range.
    """

    players: int
    sizes: tuple[int, ...]
    seed: int = 0
    sampling: str = "sizes"

    def __post_init__(self) -> None:
        check_plan(self.players, self.seed)
        if not self.sizes or not all(1 <= size <= self.players for size in self.sizes):
            raise RequestError(f"The slices {list(self.sizes)} must be coalition sizes from 1 to {self.players}.")

    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """The size each row was sampled for, int64 [stop - start]."""
        return np.array(self.sizes)[row_numbers(start, stop) // 2 % len(self.sizes)]

    def config(self) -> dict[str, Any]:
        """Name and sizes."""
        return {"sampling": self.sampling, "sizes": list(self.sizes)}


class AntitheticPlan(Seeded, PairPlan):
    """The paper's slices in turn, two pairs from each random order: its first and its last `size` players.

    A unit is the four rows S, its complement, T and its complement. S and T are uniform among the coalitions of
    their size, and disjoint while 2 * size < players: a player who is in the one is not in the other. At
    2 * size = players the last players would be the complement of the first, measured twice over; there T is every
    second player of the order, which shares as many players with S as with its complement.
    """

    @property
    def unit_rows(self) -> int:
        """Two pairs."""
        return 4

    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """The slice each row was sampled for, int64 [stop - start]."""
        slices = np.array(paper_slices(self.players))
        return slices[self.units(start, stop) % slices.size]

    def config(self) -> dict[str, Any]:
        """Name and sizes."""
        return {"sampling": "antithetic", "sizes": list(paper_slices(self.players))}

    def _cut(self, ranks: IntArray, sizes: IntArray, rows: IntArray) -> BoolArray:
        last = np.where(2 * sizes == self.players, ranks % 2 == 1, ranks >= self.players - sizes)
        return np.where(rows % self.unit_rows < 2, ranks < sizes, last)


class WalkPlan(Seeded, PairPlan):
    """Walks from the empty to the full coalition along a random order and along its reverse.

    The prefixes of the reversed order are the complements of those of the order, so a unit is 2 * players rows: the
    full and the empty coalition, which both walks share, then for s = 1 to players - 1 the first s players and
    their complement. Sizes take turns as in `all_strata`: whatever reads such pairs reads a walk too.
    """

    @property
    def unit_rows(self) -> int:
        """An order with its reverse."""
        return 2 * self.players

    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """The size each row was sampled for, int64 [stop - start]."""
        return np.array(all_strata(self.players))[row_numbers(start, stop) % self.unit_rows // 2]

    def config(self) -> dict[str, Any]:
        """Name and sizes."""
        return {"sampling": "permutation", "sizes": list(all_strata(self.players))}
