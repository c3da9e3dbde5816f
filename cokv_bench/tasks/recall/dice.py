"""Draws one after another, which a seed decides."""

from collections.abc import Sequence
from typing import TypeVar

from cokv_bench.tasks.made.draw import draw

T = TypeVar("T")


class Dice:
    """Throws that the seed and their number decide; the same in every process.

    Dice `of` a part are a series of their own: what is thrown there moves no throw here.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._thrown = 0

    def of(self, *parts: object) -> "Dice":
        """The dice of a part."""
        return Dice("\0".join(map(str, (self._seed, *parts))))

    def below(self, n: int) -> int:
        """A number in 0..n-1."""
        self._thrown += 1
        return draw(n, "recall", self._seed, self._thrown)

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, of which there must be one."""
        return choices[self.below(len(choices))]

    def chance(self, percent: int) -> bool:
        """True so often."""
        return self.below(100) < percent

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """So many different ones in a drawn order; all where there are fewer."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]
