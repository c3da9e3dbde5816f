"""Scores of different tasks and utilities on one scale: the share closed of what equal shares lose."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cokv_bench.search.ledger import Ends

# A group that loses less than this, in nats per token, is weighed as if it lost this much: almost nothing lost must not
# decide everything, least of all in a group of one example.
_SMALLEST = 0.25


class Gaps:
    """What each group of cases loses at each budget with equal shares, mean over its members."""

    def __init__(self, groups: Sequence[str], ends: Ends) -> None:
        """`groups`: the group of each case."""
        self._groups = groups
        self._full = {case: score for case, score in enumerate(ends.full) if score is not None}
        self._uniform = {
            int(budget): {case: score for case, score in enumerate(scores) if score is not None}
            for budget, scores in ends.uniform.items()
        }
        self._gaps = {
            budget: {
                group: max(_SMALLEST, float(np.mean([self._full[case] - equal[case] for case in cases])))
                for group, cases in self.members(range(len(groups))).items()
            }
            for budget, equal in self._uniform.items()
        }

    def members(self, cases: Iterable[int]) -> dict[str, list[int]]:
        """Those of the cases whose answers budgets can change, by group."""
        found: dict[str, list[int]] = {}
        for case in cases:
            if case in self._full:
                found.setdefault(self._groups[case], []).append(case)
        return found

    def gap(self, case: int, budget: int) -> float:
        """The gap of a case's group at one of the measured budgets, in nats per token."""
        return self._gaps[budget][self._groups[case]]

    def closed(self, case: int, budget: int, score: float) -> float:
        """The share of the gap that a score closes: 1 with the full cache, and on average 0 with equal shares.

        Of a group that loses almost nothing, equal shares are told to close some, see above.
        """
        return 1 - (self._full[case] - score) / self.gap(case, budget)

    def closed_over(self, budget: int, scores: Mapping[int, float]) -> float:
        """The gain over the gap of several cases, by case their scores, both means over their groups.

        0 with equal shares and 1 with the full cache on these very cases, but for a mean gap below a quarter of a nat
        per token, which counts as that much. Groups weigh as much as they lose, so those that lose almost nothing
        decide nothing.
        """
        groups = self.members(scores).values()
        equal = self._uniform[budget]
        gained = sum(float(np.mean([scores[case] - equal[case] for case in cases])) for cases in groups)
        lost = sum(float(np.mean([self._full[case] - equal[case] for case in cases])) for cases in groups)
        return gained / max(_SMALLEST * len(groups), lost)
