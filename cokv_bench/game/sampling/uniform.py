"""Coalitions drawn uniformly from all of them."""

from typing import Any

import numpy as np

from cokv_bench.game.coalitions import BoolArray, FloatArray, IntArray
from cokv_bench.game.sampling.base import Seeded, UnitPlan, random_words, row_numbers


class UniformPlan(Seeded, UnitPlan):
    """Every player is in S with probability 1/2, independently; rows 2p and 2p + 1 are S and its complement."""

    def coalitions(self, start: int, stop: int, pilot: FloatArray | None = None) -> BoolArray:
        """Rows start to stop - 1, bool [stop - start, players]."""
        rows = row_numbers(start, stop)
        first, last = start // 2, -(-stop // 2)
        words = random_words(self.seed, first, last, -(-self.players // 64))
        # Little-endian on every machine: else the bytes of a word would come in another order.
        octets = words.astype("<u8").view(np.uint8)
        inside = np.unpackbits(octets, axis=1, count=self.players, bitorder="little").astype(bool)
        chosen: BoolArray = inside[rows // 2 - first] ^ (rows % 2 == 1)[:, None]
        return chosen

    def row_sizes(self, start: int, stop: int, pilot: FloatArray | None = None) -> IntArray:
        """Zeros, int64 [stop - start]: no size was asked for."""
        return np.zeros(row_numbers(start, stop).size, dtype=np.int64)

    def config(self) -> dict[str, Any]:
        """The name."""
        return {"sampling": "uniform"}
