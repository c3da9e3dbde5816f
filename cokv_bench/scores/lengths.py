"""How scores change with the length of the prompt."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cokv_bench.scores.intervals import interval
from cokv_bench.scores.units import scale_of
from cokv_bench.tasks.registry import family_of


def lengths_table(frame: pd.DataFrame, configuration: Mapping[str, Any]) -> pd.DataFrame:
    """A row a task, method, budget and length; empty where no task has more than one length.

    The column of records that tells a task's length is its family's choice: examples that are made go by the prompt
    length that was asked for, in tokens; LongBench-E by its buckets of words, as it reports them. Tasks whose family
    names no column are left out.

    Args:
        frame: the records of a run.
        configuration: of the run.

    Returns:
        task, method, budget, length ("1024" or "0-4k"), n, score (in the unit of tables), ci_low, ci_high (95%, see
        `interval`).
    """
    known = frame.assign(length=_lengths(frame)).dropna(subset="length")
    if not (known.groupby("task")["length"].nunique() > 1).any():
        return pd.DataFrame()
    rows, scale = [], scale_of(configuration)
    for (task, method, budget), cell in known.groupby(["task", "method", "budget"], sort=False, dropna=False):
        for length in sorted(cell["length"].unique(), key=_start):
            scores = scale.factor * cell.loc[cell["length"] == length, "score"].to_numpy(float)
            low, high = interval([scores], scale.scores)
            cells = {"task": task, "method": method, "budget": budget, "length": length}
            rows.append({**cells, "n": len(scores), "score": scores.mean(), "ci_low": low, "ci_high": high})
    return pd.DataFrame(rows)


def _lengths(frame: pd.DataFrame) -> pd.Series:
    """The length of each record as text; None for tasks that have none to go by."""
    lengths = pd.Series(None, index=frame.index, dtype=object)
    for task in frame["task"].unique():
        column = family_of(task).length(task)
        if column is not None:
            mine = frame["task"] == task
            # A column that other tasks leave empty has whole numbers as floats.
            lengths[mine] = [each if isinstance(each, str) else str(int(each)) for each in frame.loc[mine, column]]
    return lengths


def _start(length: str) -> tuple[float, str]:
    """Where a length or a bucket starts, for sorting: 1024, or 8 of "8k+"; buckets without a number come last."""
    number = re.match(r"\d+", length)
    return float(number[0]) if number else math.inf, length
