"""The first question of a context and the later ones, as a table."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cokv_bench.policies.names import label
from cokv_bench.report.grids import Cell, Grid, budget_text, decimal
from cokv_bench.scores.units import Unit


def questions_grid(table: pd.DataFrame, unit: Unit) -> Grid:
    """A row a task, method and budget, a section a task; `table` is that of `questions_table`."""
    sections = [
        tuple(_row(row, unit) for row in rows.to_dict("records")) for _, rows in table.groupby("task", sort=False)
    ]
    caption = f"{unit.title} of the first question of a context, and of the later ones asked from the same cache"
    return Grid(caption, ("method", "budget", "task", "first", "95%", "later", "95%"), tuple(sections))


def _row(row: Mapping[Any, Any], unit: Unit) -> tuple[Cell, ...]:
    texts = [label(row["method"]), budget_text(row["budget"]), str(row["task"])]
    for name in ("first", "later"):
        low, high = (decimal(row[f"{name}_ci_{end}"], unit.decimals - 1) for end in ("low", "high"))
        texts += [decimal(row[name], unit.decimals), unit.between(low, high) if low and high else ""]
    return tuple(Cell(text) for text in texts)
