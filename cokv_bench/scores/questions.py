"""The first question of a context and the later ones, which are asked from the cache that the first one left."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cokv_bench.runs.checked import FIRST, LATER
from cokv_bench.scores.intervals import interval
from cokv_bench.scores.units import scale_of


def questions_table(frame: pd.DataFrame, configuration: Mapping[str, Any]) -> pd.DataFrame:
    """A row a task, method and budget; empty where every context has one question.

    Args:
        frame: the records of a run.
        configuration: of the run.

    Returns:
        task, method, budget, questions (of each context), n (contexts), then for the first question and for the mean of
        the later ones of a context: score (in the unit of tables), ci_low, ci_high (95% over contexts, see `interval`).
    """
    if FIRST not in frame:
        return pd.DataFrame()
    rows, scale = [], scale_of(configuration)
    several = frame[frame[FIRST].notna()]
    for (task, method, budget), cell in several.groupby(["task", "method", "budget"], sort=False, dropna=False):
        row = {"task": task, "method": method, "budget": budget}
        row |= {"questions": configuration["tasks"][task].get("questions"), "n": len(cell)}
        for name, column in (("first", FIRST), ("later", LATER)):
            scores = scale.factor * cell[column].to_numpy(float)
            low, high = interval([scores], scale.scores)
            row |= {name: scores.mean(), f"{name}_ci_low": low, f"{name}_ci_high": high}
        rows.append(row)
    return pd.DataFrame(rows)
