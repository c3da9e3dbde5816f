"""Which differences between methods are signal: paired comparisons with a baseline at the same budget."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cokv_bench.errors import unknown
from cokv_bench.runs.intervals import interval
from cokv_bench.runs.means import means, overall

#: Methods that are compared with, the first that a run has, where nobody names one.
_BASELINES = ("snapkv", "pyramidkv", "streaming-llm")
_PERMUTATIONS = 10_000
#: Differences with a corrected p-value of at least this are called noise.
LEVEL = 0.05


def choose_baseline(methods: list[str], wanted: str | None) -> str | None:
    """The baseline of a run: what is asked for, else SnapKV or the next best known; None where there is nothing.

    Raises:
        RequestError: a baseline that the run does not have, with the nearest names.
    """
    budgeted = [method for method in methods if method != "full"]
    if wanted is None:
        return next((name for name in (*_BASELINES, *budgeted) if name in budgeted), None)
    if wanted not in budgeted:
        raise unknown("baseline", wanted, budgeted)
    return wanted


def comparisons_table(frame: pd.DataFrame, configuration: Mapping[str, Any], baseline: str) -> pd.DataFrame:
    """A row a method and budget, and a task or the mean over tasks: the difference to the baseline, in points.

    Differences are taken example by example. The interval is a 95% percentile bootstrap over the examples, within their
    tasks for the mean; the p-value that of a sign-flip permutation test (two-sided), corrected by Benjamini and
    Yekutieli's rule, which holds for dependent tests as these are: once over the comparisons that sum the run up
    (means, and tasks that are in none), once over those of the single tasks behind means, which are more and say less.
    Where the two kept different numbers of tokens on an example they are not compared, and the numbers are left empty.

    Args:
        frame: the records of a run.
        configuration: of the run.
        baseline: a method of the run; compared at each of its budgets.

    Returns:
        baseline, method, budget, task, n, difference, ci_low, ci_high, p_value, wins, ties, losses, win_probability
        (ties count half), within_noise (whether the corrected p-value is 0.05 or more).
    """
    rows: list[dict[str, Any]] = []
    tasks = [task for task in configuration["tasks"] if (frame["task"] == task).any()]
    limited = frame[frame["budget"].notna()]
    for budget in sorted(limited["budget"].unique()):
        at = limited[limited["budget"] == budget]
        methods = [method for method in at["method"].unique() if method != baseline]
        for method in methods:
            pairs = _pairs(at, method, baseline)
            parts = {task: pairs[pairs["task"] == task] for task in tasks}
            cells = {**parts, **{name: pairs[pairs["task"].isin(group)] for name, group in means(tasks).items()}}
            for task, cell in cells.items():
                if len(cell):
                    start = {"baseline": baseline, "method": method, "budget": int(budget), "task": task}
                    rows.append({**start, **_compare(cell, int(configuration["seed"]))})
    table = pd.DataFrame(rows)
    if len(table):
        from scipy.stats import false_discovery_control  # On first use, as in `interval`.

        known = table["p_value"].notna()
        summing = table["task"].isin(overall(tasks))
        for family in (known & summing, known & ~summing):
            if family.any():
                table.loc[family, "p_value"] = false_discovery_control(table.loc[family, "p_value"], method="by")
        table["within_noise"] = (table["p_value"] >= LEVEL).astype("boolean").where(known)
    return table


def _pairs(at: pd.DataFrame, method: str, baseline: str) -> pd.DataFrame:
    """task, kept tokens and scores of both, a row an example that both answered."""
    columns = ["task", "example", "score", "kept_tokens"]
    one, other = (at.loc[at["method"] == name, columns] for name in (method, baseline))
    return one.merge(other, on=["task", "example"], suffixes=("", "_baseline"))


def _compare(cell: pd.DataFrame, seed: int) -> dict[str, Any]:
    n = len(cell)
    if (cell["kept_tokens"] != cell["kept_tokens_baseline"]).any():
        empty = ("difference", "ci_low", "ci_high", "p_value", "wins", "ties", "losses", "win_probability")
        return {"n": n, **dict.fromkeys(empty, np.nan)}
    differences = 100 * (cell["score"] - cell["score_baseline"]).to_numpy(float)
    tasks = cell["task"].to_numpy()
    groups = [differences[tasks == task] for task in dict.fromkeys(tasks)]
    low, high = interval(groups, seed)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    return {
        "n": n,
        "difference": float(np.mean([group.mean() for group in groups])),
        "ci_low": low,
        "ci_high": high,
        "p_value": _p_value(groups, seed),
        "wins": wins,
        "ties": n - wins - losses,
        "losses": losses,
        "win_probability": (wins + (n - wins - losses) / 2) / n,
    }


def _p_value(groups: list[NDArray[np.float64]], seed: int) -> float:
    """Two-sided p-value: if the methods were alike, each example's difference could as well have the other sign."""
    shares = np.concatenate([group / len(group) for group in groups])
    # Examples without a difference say nothing about its sign; without them small samples are tested exactly.
    shares = shares[shares != 0]
    if shares.size < 2:
        return 1.0
    from scipy.stats import permutation_test

    result = permutation_test(
        (shares,),
        lambda sample, axis: sample.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
