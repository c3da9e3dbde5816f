"""Where budgets stand in figures: tokens on one axis, shares of the prompt on another."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from cokv_bench.budget import PromptShare


@dataclass(frozen=True)
class Axis:
    """What stands on it.

    Attributes:
        label: with the unit.
        noun: for titles.
        sign: behind each number.
    """

    label: str
    noun: str
    sign: str = ""

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows whose budgets stand here, and those without a budget; `x` says where, 0 for none."""
        # Of a run without the task the table has no rows, and an empty list would choose no columns.
        here = table.loc[[pd.isna(budget) or _axis(budget) is self for budget in table["budget"]]]
        return here.assign(x=[_place(budget) for budget in here["budget"]])


TOKENS = Axis("budget (tokens per KV head)", "budget")
SHARES = Axis("budget (share of the prompt)", "share of the prompt", "%")


def axes(tables: Iterable[pd.DataFrame]) -> list[Axis]:
    """The axes that the budgets of some tables need; that of tokens where they have none."""
    found = {_axis(budget) for table in tables for budget in table["budget"].dropna()}
    return [axis for axis in (TOKENS, SHARES) if axis in found] or [TOKENS]


def _axis(budget: object) -> Axis:
    return SHARES if isinstance(budget, PromptShare) else TOKENS


def _place(budget: int | PromptShare) -> float:
    return float(budget.percent) if isinstance(budget, PromptShare) else 0.0 if pd.isna(budget) else float(budget)
