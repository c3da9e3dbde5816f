"""Which coalitions to measure: sizes of the strata and a seeded plan that can be extended at any time."""

from dataclasses import dataclass

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray

_WORDS_PER_BLOCK = 4  # a Philox4x64 counter step gives four 64-bit words


def paper_slices(players: int) -> tuple[int, ...]:
    """The coalition sizes that CoKV samples (arXiv 2502.17501): players/8, /4, 3/8 and /2.

    Rounded half up, at least 1, duplicates merged, ascending: 32, 64, 96, 128 of 256.

    Raises:
        RequestError: fewer than one player.
    """
    _check_players(players)
    return tuple(sorted({max(1, (eighths * players + 4) // 8) for eighths in (1, 2, 3, 4)}))


def all_strata(players: int) -> tuple[int, ...]:
    """Every coalition size of the complementary-contribution Shapley estimator (Zhang et al., SIGMOD 2023).

    The whole set comes first: a pair of size s also informs the stratum players - s, so after half a
    round every stratum has been seen.

    Raises:
        RequestError: fewer than one player.
    """
    _check_players(players)
    return (players, *range(1, players))


@dataclass(frozen=True)
class Plan:
    """An endless seeded sequence of coalitions: rows 2p and 2p + 1 are the p-th sampled S and its complement.

    S is uniform among the coalitions of its size. The sizes take turns, so any number of pairs is spread evenly
    and the first sizes get the remainder. A row depends on (players, sizes, seed, k) only, never on how
    many rows are asked for or how they are batched: a run is extended by going on where it stopped.

    Attributes:
        players: number of players.
        sizes: |S| of the pairs, in turn; each 1 to `players`.
        seed: 0 to 2**64 - 1.

    Raises:
        RequestError: an attribute out of range.
    """

    players: int
    sizes: tuple[int, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        _check_players(self.players)
        if not self.sizes or not all(1 <= size <= self.players for size in self.sizes):
            raise RequestError(f"The slices {list(self.sizes)} must be coalition sizes from 1 to {self.players}.")
        if not 0 <= self.seed < 2**64:
            raise RequestError(f"The seed is {self.seed}; it must be from 0 to 2**64 - 1.")

    def size(self, k: int) -> int:
        """The slice that row k was sampled for: |S| of its pair."""
        return self.sizes[k // 2 % len(self.sizes)]

    def coalition(self, k: int) -> BoolArray:
        """Row k, bool [players]."""
        row: BoolArray = self.coalitions(k, k + 1)[0]
        return row

    def coalitions(self, start: int, stop: int) -> BoolArray:
        """Rows start to stop - 1, bool [stop - start, players]."""
        if not 0 <= start <= stop:
            raise RequestError(f"Rows {start} to {stop} of a sampling plan do not exist.")
        first, last = start // 2, -(-stop // 2)
        pairs = np.arange(first, last)
        # The bits of a numpy bit generator are guaranteed from release to release; its shuffles are not.
        blocks = -(-self.players // _WORDS_PER_BLOCK)
        stream = np.random.Philox(key=self.seed, counter=first * blocks)
        width = blocks * _WORDS_PER_BLOCK
        words = stream.random_raw(pairs.size * width).reshape(pairs.size, width)
        order = np.argsort(words[:, : self.players], axis=1, kind="stable")
        sizes = np.array(self.sizes)[pairs % len(self.sizes)]
        rows = np.empty((pairs.size, 2, self.players), dtype=bool)
        np.put_along_axis(rows[:, 0], order, np.arange(self.players) < sizes[:, None], axis=1)
        rows[:, 1] = ~rows[:, 0]
        return rows.reshape(-1, self.players)[start - 2 * first : stop - 2 * first]


def _check_players(players: int) -> None:
    if players < 1:
        raise RequestError(f"A game needs at least one player, not {players}.")
