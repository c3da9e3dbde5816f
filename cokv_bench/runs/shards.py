"""A share of a run's work, for processes that know nothing of each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from cokv_bench.errors import RequestError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, numbered from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From "2/8". Raises `RequestError` for anything else."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise RequestError(f"'{text}' is not a shard; write 2/8 for the second of eight.")
        return cls(int(found[1]), int(found[2]))

    def of(self, items: Sequence[T]) -> list[T]:
        """Every `count`-th item, so that shards of a sorted list take about the same time."""
        return list(items[self.number - 1 :: self.count])
