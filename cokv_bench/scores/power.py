"""Which difference from the baseline so many examples can show: before a run by assumption, after it by its spread."""

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cokv_bench.policies.names import competing
from cokv_bench.scores.comparisons import PRIMARY
from cokv_bench.scores.means import groups, overall
from cokv_bench.scores.signflips import LEVEL

#: Chance of finding a difference that is there.
POWER = 0.8
#: Share of the examples on which two methods' answers differ, one right and one wrong, where nothing is measured yet.
DISCORDANT = 0.3


class Detectable(NamedTuple):
    """What a primary test can show.

    Attributes:
        task: a benchmark's mean over tasks, or its only task.
        examples: behind it.
        comparisons: tests in the primary family.
        difference: the least that is found with a chance of 80%, in the unit of the scores; NaN where the examples are
            too few for any.
    """

    task: str
    examples: int
    comparisons: int
    difference: float


def planned(configuration: Mapping[str, Any]) -> list[Detectable]:
    """Of a run that is planned, in points, if answers are right or wrong and 30% of the pairs differ.

    Budgets are taken to add nothing to each other: the same examples are hard at all of them.

    Args:
        configuration: of the run.
    """
    counts = {task: int(told["examples"]) for task, told in configuration["tasks"].items()}
    methods = competing(configuration["methods"])
    wholes, behind = overall(counts), groups(counts)
    comparisons = max(len(methods) - 1, 0) * len(wholes)
    found = []
    for whole in wholes if comparisons else ():
        sizes = np.array([counts[task] for task in behind[whole]])
        error = 100 * np.sqrt(DISCORDANT * (1 / sizes).sum()) / len(sizes)
        found.append(_detectable(whole, int(sizes.sum()), comparisons, float(error)))
    return found


def observed(comparisons: pd.DataFrame) -> list[Detectable]:
    """Of a run, by the spread of its own differences: the median over the methods.

    Args:
        comparisons: as `comparisons_table` makes them, with one baseline.
    """
    primary = comparisons[(comparisons["family"] == PRIMARY) & comparisons["difference"].notna()]
    return [
        _detectable(str(task), int(rows["n"].max()), len(primary), float(rows["standard_error"].median()))
        for task, rows in primary.groupby("task", sort=False)
    ]


def _detectable(task: str, examples: int, comparisons: int, error: float) -> Detectable:
    each = LEVEL / comparisons
    # If all examples point the same way, two of their sign patterns are as extreme.
    if 2.0 ** (1 - examples) >= each:
        return Detectable(task, examples, comparisons, float("nan"))
    critical = _student_quantile(1 - each / 2, examples - 1)
    return Detectable(task, examples, comparisons, (critical + NormalDist().inv_cdf(POWER)) * error)


def _student_quantile(p: float, freedom: int) -> float:
    """Of Student's t distribution, within 0.2% where it is asked for (6 degrees of freedom or more).

    The first terms of Fisher's expansion: a size that is told as "about" needs no SciPy, whose import takes longer
    than a report.
    """
    z = NormalDist().inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
