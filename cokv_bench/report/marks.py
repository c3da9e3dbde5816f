"""Marks of a table's cells and columns that come from the comparisons of a run."""

from collections.abc import Mapping

import pandas as pd

from cokv_bench.budget import Budget
from cokv_bench.policies.names import FULL, competing
from cokv_bench.scores.signflips import LEVEL

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


#: Why a cell, which is a task at a budget, cannot tell methods apart.
FEW = "Too few examples: no difference of any size could be significant here."
CHANCE = "The full cache is not above chance here, so no method has anything to lose."
NO_GAP = "The full cache's score is inside every method's 95% interval here, so there is no gap to close."


def blind_cells(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[Budget, str], str]:
    """Cells that cannot tell methods apart, and why: `FEW`, `CHANCE`, or `NO_GAP` where no method differs either.

    Args:
        tables: of a run, by file name.

    Returns:
        By budget and task (or mean over tasks) the first reason that holds.
    """
    compared = tables.get("comparisons.csv", pd.DataFrame())
    if compared.empty:
        return {}
    scores = tables["scores.csv"]
    full = {row["task"]: row["score"] for row in scores[scores["method"] == FULL].to_dict("records")}
    scored = scores[scores["method"].isin(competing(scores["method"].unique()))]
    tested = compared[compared["budget"].notna() & compared["difference"].notna()]
    found: dict[tuple[Budget, str], str] = {}
    for budget, task in dict.fromkeys(zip(tested["budget"], tested["task"], strict=True)):
        cell, rows = (each[(each["budget"] == budget) & (each["task"] == task)] for each in (tested, scored))
        if not cell["discriminates"].any():
            found[budget, task] = FEW if cell["least_p"].min() >= LEVEL else CHANCE
        elif task in full and cell["within_noise"].all():
            # An interval is not known of every score; one that is the full cache's own needs none.
            level = full[task]
            inside = (rows["ci_low"] <= level) & (level <= rows["ci_high"]) | (rows["score"] == level)
            if inside.all():
                found[budget, task] = NO_GAP
    return found
