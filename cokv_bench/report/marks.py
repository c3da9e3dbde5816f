"""Marks of a table's cells and columns that come from the comparisons of a run."""

from collections.abc import Mapping

import pandas as pd

#: A column's mark, and what it means.
BLIND_MARK = "§"
BLIND = "cannot discriminate: too few examples for any corrected p below 0.05, or the full cache is not above chance"


def blind_tasks(tables: Mapping[str, pd.DataFrame]) -> set[str]:
    """Tasks and means on which no comparison of a run could have found a difference.

    Args:
        tables: of a run, by file name.
    """
    table = tables.get("comparisons.csv")
    if table is None or table.empty:
        return set()
    # What was not compared for unequal totals is unknown, and says nothing about the task.
    able = table["discriminates"].astype("boolean").groupby(table["task"]).agg(["any", "count"])
    return {str(task) for task in able.index[~able["any"] & (able["count"] > 0)]}
