"""Which share of the gap between SnapKV and the full cache each method closes."""

from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.runs.intervals import interval

#: The ends of the gap: shares of 0 and of 1.
LOWER, UPPER = "snapkv", "full"
#: Rows over several tasks: the mean of the shares of tasks that have a gap, and the mean gain over the mean gap.
OVER_TASKS, OVER_GAPS, OVER_ALL = "mean of tasks", "mean of tasks with a gap", "gain over gap"


def is_sum(task: str) -> bool:
    """Whether a row is over several tasks; no task is called like one."""
    return task in (OVER_TASKS, OVER_GAPS, OVER_ALL) or task.startswith(f"{OVER_ALL}, ")


def gaps_table(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a budget, method and task, then rows over several tasks.

    Where there is nothing to close a share says nothing, so "mean of tasks with a gap" leaves out tasks whose gap's
    interval does not lie above 0; "gain over gap" needs no share of single tasks, and has rows for all tasks and for
    those of each benchmark.

    Args:
        frame: records of a run with both ends; a score of 0.01 is 1 in the table.
        seed: of the bootstrap.

    Returns:
        budget, task, gap (mean over the examples), gap_ci_low, gap_ci_high (95%, bootstrap over the examples), method,
        gained (over SnapKV), closed (gained over gap), tasks (of rows over several).
    """
    values = frame.assign(value=100 * frame["score"]).set_index(["task", "example"])
    full = values.loc[values["method"] == UPPER, "value"]
    rows: list[dict[str, Any]] = []
    for budget, at in values[values["budget"].notna()].groupby("budget"):
        by_method = {method: cell["value"] for method, cell in at.groupby("method")}
        lost = (full - by_method[LOWER]).dropna()
        for task, each in lost.groupby(level="task", sort=False):
            low, high = interval([each.to_numpy()], seed)
            start = {"budget": budget, "task": task, "gap": each.mean(), "gap_ci_low": low, "gap_ci_high": high}
            for method, found in by_method.items():
                gained = (found[task] - by_method[LOWER][task]).mean()
                closed = gained / each.mean() if each.any() else np.nan
                rows.append({**start, "method": method, "gained": gained, "closed": closed})
    table = pd.DataFrame(rows)
    sums = []
    for title, part in ((OVER_TASKS, table), (OVER_GAPS, table[table["gap_ci_low"] > 0])):
        means = part.groupby(["budget", "method"], as_index=False)[["gap", "gained", "closed"]].mean()
        sums.append(means.assign(task=title, tasks=part["task"].nunique()))
    benchmark = table["task"].str.split("/").str[0]
    parts = {OVER_ALL: table, **{f"{OVER_ALL}, {name}": part for name, part in table.groupby(benchmark)}}
    for title, part in parts.items():
        means = part.groupby(["budget", "method"], as_index=False)[["gap", "gained"]].mean()
        closed = means["gained"] / means["gap"]
        sums.append(means.assign(task=title, closed=closed, tasks=part["task"].nunique()))
    return pd.concat([table, *sums], ignore_index=True)
