"""Which share of the gap between SnapKV and the full cache each method closes."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from cokv_bench.scores.intervals import interval, ratio_intervals
from cokv_bench.tasks.registry import family_of

#: The ends of the gap: shares of 0 and of 1.
LOWER, UPPER = "snapkv", "full"
#: Rows over several tasks: the mean of the shares of tasks that have a gap, and the mean gain over the mean gap.
OVER_TASKS, OVER_GAPS, OVER_ALL = "mean of tasks", "mean of tasks with a gap", "gain over gap"
#: Of `gaps_table`.
COLUMNS = [
    *("budget", "task", "gap", "gap_ci_low", "gap_ci_high"),
    *("method", "gained", "closed", "closed_ci_low", "closed_ci_high", "tasks"),
]
# Beside the methods' columns; no method is called like it.
_GAP = "the gap"


def is_sum(task: str) -> bool:
    """Whether a row is over several tasks; no task is called like one."""
    return task in (OVER_TASKS, OVER_GAPS, OVER_ALL) or task.startswith(f"{OVER_ALL}, ")


def gaps_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a budget, method and task, then rows over several tasks.

    Where there is nothing to close a share says nothing, so "mean of tasks with a gap" leaves out tasks whose gap's
    interval does not lie above 0; "gain over gap" needs no share of single tasks, and has rows for all tasks and for
    those of each benchmark, of the methods that have all of these.

    Args:
        frame: records of a run with both ends.

    Returns:
        budget, task, gap (mean over the examples), gap_ci_low, gap_ci_high (95%, see `interval`), method, gained (over
        SnapKV), closed (gained over gap), closed_ci_low, closed_ci_high (see `ratio_intervals`; where the gap's
        interval lies above 0), tasks (of rows over several, those of the method at the budget). Means of shares have no
        intervals: where a task's gap may be near 0, its share may be anything.
    """
    values = frame.set_index(["task", "example"])
    full = values.loc[values["method"] == UPPER, "score"]
    rows: list[pd.DataFrame] = []
    sums: list[pd.DataFrame] = []
    for budget, at in values[values["budget"].notna()].groupby("budget"):
        scores = at.set_index("method", append=True)["score"].unstack("method").loc[at.index.unique()]
        if LOWER not in scores:
            continue  # Of a run that is not done yet, as where no example has both ends.
        gains = scores.sub(scores[LOWER], axis=0).assign(**{_GAP: full - scores[LOWER]}).dropna(subset=_GAP)
        by_task = {
            str(task): shared
            for task, gained in gains.groupby(level="task", sort=False)
            # The gap of a task is over the examples that all of its methods have: one gap for all of them.
            if len(shared := gained.dropna(axis="columns", how="all").dropna())
        }
        if not by_task:
            continue
        rows += [_closed([gained]).assign(budget=budget, task=task) for task, gained in by_task.items()]
        for title, names in _benchmarks(by_task).items():
            found = _closed([by_task[name] for name in names])
            sums.append(found.assign(budget=budget, task=title, tasks=len(names)))
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(rows, ignore_index=True)
    for title, part in ((OVER_TASKS, table), (OVER_GAPS, table[table["gap_ci_low"] > 0])):
        cells = part.groupby(["budget", "method"])
        # Tasks have a gap at some budgets, and a method may lack some tasks.
        means = cells[["gap", "gained", "closed"]].mean().assign(tasks=cells["closed"].count())
        sums.append(means.reset_index().assign(task=title))
    return pd.concat([table, *sums], ignore_index=True)[COLUMNS]


def _benchmarks(tasks: Iterable[str]) -> dict[str, list[str]]:
    """The tasks that each row of gain over gap is over: all of them, and those of each benchmark."""
    found: dict[str, list[str]] = {OVER_ALL: []}
    for task in tasks:
        found[OVER_ALL].append(task)
        found.setdefault(f"{OVER_ALL}, {family_of(task).name}", []).append(task)
    return found


def _closed(tasks: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A row a method: the gap, what is gained and closed, and their intervals.

    Args:
        tasks: by task the gains, a row an example, a column a method, and last the gap; methods that not all tasks have
            are left out.
    """
    everywhere = [name for name in tasks[0] if all(name in gained for gained in tasks)]
    tasks = [gained[everywhere] for gained in tasks]
    means = pd.concat([gained.mean() for gained in tasks], axis=1).mean(axis=1)
    gap, gained = means[_GAP], means.drop(_GAP)
    low, high = interval([each[_GAP].to_numpy() for each in tasks])
    # A gap that may be none is nothing to divide by.
    lows, highs = ratio_intervals([each.to_numpy().T for each in tasks]) if low > 0 else (np.nan, np.nan)
    return pd.DataFrame(
        {
            "gap": gap,
            "gap_ci_low": low,
            "gap_ci_high": high,
            "method": gained.index,
            "gained": gained.to_numpy(),
            "closed": gained.to_numpy() / gap if gap else np.nan,
            "closed_ci_low": lows,
            "closed_ci_high": highs,
        }
    )
