"""Which differences between methods are signal: paired comparisons with a baseline at the same budget."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.budget import Budget, column_type
from cokv_bench.errors import unknown
from cokv_bench.policies.names import base, canonical, competing
from cokv_bench.scores.chance import at_chance
from cokv_bench.scores.intervals import Bounds, interval, spread
from cokv_bench.scores.means import groups, overall
from cokv_bench.scores.signflips import LEVEL, family_test
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
# An example's row in the matrix of a family.
_ROW = "the example"


def choose_baselines(methods: Sequence[str], wanted: Sequence[str] = ()) -> list[str]:
    """The baselines of a run: what is asked for, else SnapKV or the next best known; none where there is nothing.

    With options in its name a method stands in for its base where the run does not have that.

    Raises:
        RequestError: a baseline that the run does not have, with the nearest names.
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
    numbers are left empty.

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
        been found: least_p is below 0.05, and the full cache is not at chance, see `at_chance`).
    """
    tasks = [task for task in configuration["tasks"] if (frame["task"] == task).any()]
    wholes, behind = overall(tasks), groups(tasks)
    scale = scale_of(configuration)
    rows: list[dict[str, Any]] = []
    shares: list[pd.Series] = []
    for start, pairs in _all_pairs(frame, baseline, scale.factor):
        for task in wholes if start["family"] == PRIMARY and pd.isna(start["budget"]) else behind:
            cell = pairs[pairs["task"].isin(behind[task])]
            if len(cell):
                family = start["family"] if task in wholes else TASK
                numbers, added = _compare(cell, scale.gains)
                rows.append({**start, "family": family, "baseline": baseline, "task": task, **numbers})
                shares.append(added)
    table = pd.DataFrame(rows, columns=COLUMNS)
    known = table["difference"].notna()
    for family in table["family"].unique():
        tested = table.index[known & (table["family"] == family)]
        if len(tested):
            matrix = pd.concat([shares[row] for row in tested], axis=1).fillna(0.0).sort_index().to_numpy(float)
            found = family_test(matrix, table.loc[tested, "n"].to_numpy(), int(configuration["seed"]))
            for name, column in zip(("p_value", "p_adjusted", "p_error", "least_p"), found, strict=True):
                table.loc[tested, name] = column
    blind = table["task"].isin(at_chance(frame, configuration)) | (table["least_p"] >= LEVEL)
    table["within_noise"] = (table["p_adjusted"] >= LEVEL).astype("boolean").where(known)
    table["discriminates"] = (~blind).astype("boolean").where(known)
    return table.astype({"budget": column_type(table["budget"])})


def _all_pairs(frame: pd.DataFrame, baseline: str, factor: float) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The family of a benchmark's mean, method and budget, and the pairs: means over budgets, then single ones."""
    # Numbered in an order that is not that of the records, so that the flips are not either.
    numbered = frame.assign(**{_ROW: frame.groupby(["task", "example"]).ngroup()})
    limited = numbered[numbered["budget"].notna()]
    single: dict[tuple[str, Budget], pd.DataFrame] = {}
    for budget in sorted(limited["budget"].unique()):
        at = limited[limited["budget"] == budget]
        for method in competing(at["method"].unique()):
            if method != baseline:
                single[method, budget] = _pairs(at, method, baseline, factor)
    several = limited["budget"].nunique() > 1
    if several:
        for name in dict.fromkeys(method for method, _ in single):
            parts = [pairs for (method, _), pairs in single.items() if method == name and len(pairs)]
            if parts:
                yield {"family": PRIMARY, "method": name, "budget": pd.NA}, _over_budgets(parts)
    for (method, budget), pairs in single.items():
        yield {"family": BUDGET if several else PRIMARY, "method": method, "budget": budget}, pairs


def _pairs(at: pd.DataFrame, method: str, baseline: str, factor: float) -> pd.DataFrame:
    """task, the example's number, difference, whether both kept as much; a row per example of both."""
    columns = ["task", _ROW, "score", "kept_tokens"]
    one, other = (at.loc[at["method"] == name, columns] for name in (method, baseline))
    both = one.merge(other, on=["task", _ROW], suffixes=("", "_baseline"))
    # Rounded, so that what is alike but for the order of a sum is alike.
    difference = (factor * (both["score"] - both["score_baseline"]).astype(float)).round(9)
    return both[["task", _ROW]].assign(difference=difference, equal=both["kept_tokens"] == both["kept_tokens_baseline"])


def _over_budgets(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean differences of the examples that have every budget."""
    every = pd.concat(parts).groupby(["task", _ROW], sort=False)
    means = every.agg(difference=("difference", "mean"), equal=("equal", "all"), budgets=("equal", "size"))
    means["difference"] = means["difference"].round(9)
    return means[means["budgets"] == len(parts)].reset_index()


def _compare(cell: pd.DataFrame, bounds: Bounds | None) -> tuple[dict[str, Any], pd.Series]:
    """The numbers of a row before it is tested, and what each example adds to the difference, by its number."""
    n = len(cell)
    differences, tasks = cell["difference"].to_numpy(float), cell["task"].to_numpy()
    groups = [differences[tasks == task] for task in dict.fromkeys(tasks)]
    counts = np.array([len(group) for group in groups])[pd.factorize(tasks)[0]]
    shares = pd.Series(differences / counts / len(groups), index=cell[_ROW])
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
