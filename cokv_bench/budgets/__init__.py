"""Budgets: how many tokens each KV head keeps, as checked files and as rules that find them."""

from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.embedded import embedded_budgets
from cokv_bench.budgets.head_budgets import HeadBudgets
from cokv_bench.budgets.head_curves import HeadCurves
from cokv_bench.budgets.head_file import HeadFile, load_head_file
from cokv_bench.budgets.head_scores import HeadScores
from cokv_bench.budgets.head_shares import HeadShares
from cokv_bench.budgets.head_values import HeadValues
from cokv_bench.budgets.rules import from_head_scores, from_head_values

__all__ = [
    "HeadBudgets",
    "HeadCurves",
    "HeadFile",
    "HeadScores",
    "HeadShares",
    "HeadValues",
    "apportion",
    "embedded_budgets",
    "from_head_scores",
    "from_head_values",
    "load_head_file",
]
