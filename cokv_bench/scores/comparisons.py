"""Which differences between methods are signal: paired comparisons with a baseline at the same budget."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from cokv_bench.budget import Budget, column_type
from cokv_bench.errors import RequestError, unknown
from cokv_bench.policies.names import base, canonical, competing, is_ceiling
from cokv_bench.scores.chance import at_chance, is_loss
from cokv_bench.scores.means import groups, overall
from cokv_bench.scores.paired import Measured, Pairs, compare, joint_test, numbered, over_budgets, pairs
from cokv_bench.scores.signflips import LEVEL
from cokv_bench.scores.units import scale_of

#: Methods that are compared with, the first that a run has, where nobody names one.
_BASELINES = ("snapkv", "pyramidkv", "streaming-llm")
#: The families of tests. Each is corrected for its own comparisons, whatever the others have.
PRIMARY, BUDGET, TASK = "primary", "budget", "task"
#: Of `comparisons_table`.
COLUMNS = [
    *("family", "baseline", "method", "budget", "task", "n", "difference", "ci_low", "ci_high", "standard_error"),
    *("p_value", "p_adjusted", "p_error", "least_p", "wins", "ties", "losses", "win_probability"),
    *("within_noise", "discriminates"),
]


def choose_baselines(methods: Sequence[str], wanted: Sequence[str] = ()) -> list[str]:
    """The baselines of a run: what is asked for, else SnapKV or the next best known; none where there is nothing.

    With options in its name a method stands in for its base where the run does not have that.

    Raises:
        RequestError: a baseline that the run does not have, with the nearest names, or a ceiling.
    """
    budgeted = competing(methods)
    if not wanted:
        known = [
            each for name in _BASELINES for each in sorted(budgeted, key=lambda m: m != name) if base(each) == name
        ]
        return [*known, *budgeted][:1]
    found = [_named(name, budgeted) for name in wanted]
    return list(dict.fromkeys(found))


def _named(wanted: str, methods: Sequence[str]) -> str:
    """The method that a name means, however its options are written."""
    found = next((each for each in methods if wanted == each or canonical(wanted) == canonical(each)), None)
    if found is None and is_ceiling(wanted):
        raise RequestError(f"'{wanted}' is a ceiling, and no test compares with one; name another --baseline.")
    if found is None:
        raise unknown("baseline", wanted, methods)
    return found


def comparisons_table(frame: pd.DataFrame, configuration: Mapping[str, Any], baseline: str) -> pd.DataFrame:
    """Each method against a baseline at equal totals: differences, intervals, and tests in three families.

    Differences are taken example by example, in the unit of tables. `primary` is what a run is judged by: one test per
    method and benchmark (its mean over tasks, or its only task) of the mean over the budgets, all of them one family.
    Second come `budget`, the single budgets of the same, and `task`, the single tasks behind means at single budgets.
    In a run of one budget the primary tests are at that budget. Each family is tested jointly by sign flips (see
    `family_test`). Where the two methods kept different numbers of tokens on an example they are not compared, and the
    numbers are left empty. A mean over tasks has no row where the two methods lack one of its tasks, as in a run that
    was stopped: it would be over other tasks than it says.

    Args:
        frame: the records of a run.
        configuration: of the run.
        baseline: a method of the run; compared at each of its budgets.

    Returns:
        A row per method, budget (empty for the mean over those that both methods have) and task or mean over tasks:
        family, baseline, method, budget, task, n, difference, ci_low, ci_high (95%, see `interval`), standard_error (of
        the difference), p_value (two-sided), p_adjusted (corrected for the family), p_error (its Monte Carlo standard
        error), least_p (the least p_adjusted that so many examples can give), wins, ties, losses, win_probability (ties
        count half), within_noise (whether p_adjusted is 0.05 or more), discriminates (whether a difference could have
        been found: least_p is below 0.05, and the full cache is not at chance, see `at_chance`, or one was found from a
        method that is below it).
    """
    tasks = [task for task in configuration["tasks"] if (frame["task"] == task).any()]
    wholes, behind = overall(tasks), groups(tasks)
    scale = scale_of(configuration)
    rows: list[dict[str, Any]] = []
    shares: list[Pairs] = []
    for start, paired in _all_pairs(frame, baseline, scale.factor):
        for task in wholes if start["family"] == PRIMARY and pd.isna(start["budget"]) else behind:
            cell = paired.of(behind[task])
            if set(cell.tasks) == set(behind[task]):
                family = start["family"] if task in wholes else TASK
                numbers, added = compare(cell, scale.gains)
                rows.append({**start, "family": family, "baseline": baseline, "task": task, **numbers})
                shares.append(added)
    table = pd.DataFrame(rows, columns=COLUMNS)
    known = table["difference"].notna()
    for family in table["family"].unique():
        tested = table.index[known & (table["family"] == family)]
        if len(tested):
            found = joint_test([shares[row] for row in tested], int(configuration["seed"]))
            for name, column in zip(("p_value", "p_adjusted", "p_error", "least_p"), found, strict=True):
                table.loc[tested, name] = column
    blind = table["task"].isin(at_chance(frame, configuration)) | (table["least_p"] >= LEVEL)
    for row in table.index[blind & (table["p_adjusted"] < LEVEL)]:
        # Chance is judged by a method that, at a generous budget, may be as good as the full cache.
        told = table.loc[row]
        blind[row] = not is_loss(frame, behind[told["task"]], (told["method"], baseline), told["budget"])
    table["within_noise"] = (table["p_adjusted"] >= LEVEL).astype("boolean").where(known)
    table["discriminates"] = (~blind).astype("boolean").where(known)
    return table.astype({"budget": column_type(table["budget"])})


def _all_pairs(frame: pd.DataFrame, baseline: str, factor: float) -> Iterator[tuple[dict[str, Any], Pairs]]:
    """The family of a benchmark's mean, method and budget, and the pairs: means over budgets, then single ones."""
    rows = numbered(frame)
    limited = rows[rows["budget"].notna()]
    single: dict[tuple[str, Budget], Pairs] = {}
    for budget in sorted(limited["budget"].unique()):
        at = limited[limited["budget"] == budget]
        for method in competing(at["method"].unique()):
            if method != baseline:
                one, other = (Measured.of(at[at["method"] == name]) for name in (method, baseline))
                single[method, budget] = pairs(one, other, factor)
    several = limited["budget"].nunique() > 1
    if several:
        for name in dict.fromkeys(method for method, _ in single):
            parts = [paired for (method, _), paired in single.items() if method == name and len(paired)]
            if parts:
                yield {"family": PRIMARY, "method": name, "budget": pd.NA}, over_budgets(parts)
    for (method, budget), paired in single.items():
        yield {"family": BUDGET if several else PRIMARY, "method": method, "budget": budget}, paired
