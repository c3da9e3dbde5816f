"""Utilities of different tasks on one scale: the share of the gap between equal shares and the full cache."""

import math
from collections.abc import Sequence

import numpy as np

from cokv_bench.search.ledger import Ends

# A task that loses less than this, in nats a token, is weighed as if it lost this much: almost nothing lost must not
# decide everything.
_SMALLEST = 0.05


class Gaps:
    """What each task loses at each budget with equal shares, mean over its examples."""

    def __init__(self, tasks: Sequence[str], ends: Ends) -> None:
        """`tasks`: the task of each example."""
        self._full = ends.full
        members = {task: [number for number, name in enumerate(tasks) if name == task] for task in tasks}
        self._gaps = {}
        for budget, uniform in ends.uniform.items():
            lost = np.array(ends.full) - np.array(uniform)
            by_task = {task: max(_SMALLEST, float(lost[numbers].mean())) for task, numbers in members.items()}
            self._gaps[int(budget)] = [by_task[task] for task in tasks]

    def gap(self, example: int, budget: int) -> float:
        """The gap of an example's task, in nats a token, at the measured budget that is nearest by ratio."""
        nearest = min(self._gaps, key=lambda known: abs(math.log(known / budget)))
        return self._gaps[nearest][example]

    def closed(self, example: int, budget: int, score: float) -> float:
        """The share of the gap that a score closes: on average 0 with equal shares and 1 with the full cache."""
        return 1 - (self._full[example] - score) / self.gap(example, budget)
