"""Two methods on the same examples: differences example by example, their mean with its interval, and their tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.scores.intervals import Bounds, interval, spread
from cokv_bench.scores.signflips import Outcome, family_test

#: The column that numbers the examples, the same number for an example in all frames of a family.
ROW = "the example"


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Records with their examples numbered, in an order that is not that of the records, so that flips are not either.

    Args:
        frame: with the columns task and example.
    """
    return frame.assign(**{ROW: frame.groupby(["task", "example"]).ngroup()})


def pairs(one: pd.DataFrame, other: pd.DataFrame, factor: float) -> pd.DataFrame:
    """task, the example's number, difference, whether both kept as much; a row per example of both.

    Args:
        one, other: numbered records of a method each, at one budget.
        factor: from the scores of records to those of tables.
    """
    columns = ["task", ROW, "score", "kept_tokens"]
    both = one[columns].merge(other[columns], on=["task", ROW], suffixes=("", "_other"))
    # Rounded, so that what is alike but for the order of a sum is alike.
    difference = (factor * (both["score"] - both["score_other"]).astype(float)).round(9)
    return both[["task", ROW]].assign(difference=difference, equal=both["kept_tokens"] == both["kept_tokens_other"])


def over_budgets(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean differences of the examples that have every budget.

    Args:
        parts: pairs of the same two methods, a frame per budget.
    """
    every = pd.concat(parts).groupby(["task", ROW], sort=False)
    means = every.agg(difference=("difference", "mean"), equal=("equal", "all"), budgets=("equal", "size"))
    means["difference"] = means["difference"].round(9)
    return means[means["budgets"] == len(parts)].reset_index()


def compare(cell: pd.DataFrame, bounds: Bounds | None) -> tuple[dict[str, Any], pd.Series]:
    """The numbers of a comparison before it is tested, and what each example adds to the difference, by its number.

    Where the two kept different numbers of tokens on an example they are not compared: there is `n` alone.

    Args:
        cell: pairs of one task or several, whose means count alike.
        bounds: of a difference.
    """
    n = len(cell)
    differences, tasks = cell["difference"].to_numpy(float), cell["task"].to_numpy()
    groups = [differences[tasks == task] for task in dict.fromkeys(tasks)]
    counts = np.array([len(group) for group in groups])[pd.factorize(tasks)[0]]
    shares = pd.Series(differences / counts / len(groups), index=cell[ROW])
    if not cell["equal"].all():
        return {"n": n}, shares
    low, high = interval(groups, bounds)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    numbers = {
        "n": n,
        "difference": float(np.mean([group.mean() for group in groups])),
        "ci_low": low,
        "ci_high": high,
        "standard_error": spread(groups).error if min(map(len, groups)) > 1 else np.nan,
        "wins": wins,
        "ties": n - wins - losses,
        "losses": losses,
        "win_probability": (wins + (n - wins - losses) / 2) / n,
    }
    return numbers, shares


def joint_test(shares: Sequence[pd.Series], sizes: Sequence[int], seed: int) -> Outcome:
    """Test comparisons jointly by sign flips, see `family_test`.

    Args:
        shares: what each example adds to each difference, by its number.
        sizes: the number of examples of each comparison.
        seed: of the flips.
    """
    matrix = pd.concat(list(shares), axis=1).fillna(0.0).sort_index().to_numpy(float)
    return family_test(matrix, np.asarray(sizes), seed)
