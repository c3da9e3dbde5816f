"""Curves by budget: how good each setting of a knob was on profile examples, and which one is chosen."""

import math
from collections.abc import Mapping
from typing import TypeVar

from cokv_bench.checks import check_count

Setting = TypeVar("Setting", bound=float)
#: Budget -> setting -> mean utility on the profile examples.
Curves = Mapping[int, Mapping[Setting, float]]


def nearest_budget(budgets: Mapping[int, object], budget: int) -> int:
    """The measured budget whose ratio to `budget` is nearest to 1; of two equally near the first.

    Raises:
        RequestError: the budget is no whole number of tokens.
    """
    check_count(budget, 1, "A budget")
    return min(budgets, key=lambda known: abs(math.log(known / budget)))


def best_setting(curves: Curves[Setting], budget: int) -> Setting:
    """The setting with the highest utility at the nearest measured budget; of equal ones the first."""
    curve = curves[nearest_budget(curves, budget)]
    return max(curve, key=curve.__getitem__)
