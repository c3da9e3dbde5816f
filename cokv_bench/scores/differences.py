"""Sign-flip tests of differences that are already in a table: a row an example, a column a comparison."""

import numpy as np
import pandas as pd

from cokv_bench.scores.signflips import family_test


def weighed(differences: pd.DataFrame, groups: int = 1) -> pd.DataFrame:
    """What each example adds to the mean over tasks, which count alike, where that is one of so many means.

    Args:
        differences: a row an example, with the levels task and example; a column a comparison.
        groups: such as families, which count alike.
    """
    tasks = differences.groupby(level="task")
    return differences.div(tasks.transform("size") * tasks.ngroups * groups, axis=0)


def tested(shares: pd.DataFrame) -> pd.DataFrame:
    """One test of the comparisons together, corrected for their number.

    Args:
        shares: as `weighed` gives them. Rows of equal level example, such as a row that two tasks share, are one
            example, whose shares add up.

    Returns:
        method (the column), difference, p_value, p_adjusted (see `family_test`).
    """
    every = shares.groupby(level="example").sum()
    test = family_test(every.to_numpy(float), np.full(every.shape[1], len(every)), seed=0)
    return pd.DataFrame(
        {
            "method": every.columns,
            "difference": every.sum().to_numpy(),
            "p_value": test.p_value,
            "p_adjusted": test.adjusted,
        }
    )
