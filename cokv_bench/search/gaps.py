"""Scores of different tasks and utilities on one scale: the share closed of what equal shares lose."""

import math
from collections.abc import Sequence

import numpy as np

from cokv_bench.search.ledger import Ends

# A group that loses less than this, in nats a token, is weighed as if it lost this much: almost nothing lost must not
# decide everything.
_SMALLEST = 0.05


class Gaps:
    """What each group of cases loses at each budget with equal shares, mean over its members."""

    def __init__(self, groups: Sequence[str], ends: Ends) -> None:
        """`groups`: the group of each case."""
        self._full = ends.full
        members = {group: [case for case, name in enumerate(groups) if name == group] for group in groups}
        self._gaps = {}
        for budget, uniform in ends.uniform.items():
            lost = np.array(ends.full) - np.array(uniform)
            by_group = {group: max(_SMALLEST, float(lost[cases].mean())) for group, cases in members.items()}
            self._gaps[int(budget)] = [by_group[group] for group in groups]

    def gap(self, case: int, budget: int) -> float:
        """The gap of a case's group, in nats a token, at the measured budget that is nearest by ratio."""
        nearest = min(self._gaps, key=lambda known: abs(math.log(known / budget)))
        return self._gaps[nearest][case]

    def closed(self, case: int, budget: int, score: float) -> float:
        """The share of the gap that a score closes: on average 0 with equal shares and 1 with the full cache."""
        return 1 - (self._full[case] - score) / self.gap(case, budget)
