"""Figures of the gap between SnapKV and the full cache: which share of it each method closes, by budget."""

from collections.abc import Sequence

import pandas as pd

from cokv_bench.policies.names import is_ceiling, label
from cokv_bench.report.axes import Axis, axes
from cokv_bench.report.figures import Group, Lines, Series, number, numbers, ranked
from cokv_bench.report.folders import Run
from cokv_bench.report.methods import described, styles
from cokv_bench.report.palettes import look
from cokv_bench.report.scores import methods_of
from cokv_bench.scores.gaps import LOWER, OVER_ALL, OVER_GAPS, UPPER, is_sum
from cokv_bench.scores.units import Unit


def gaps(unit: Unit, runs: Sequence[Run]) -> Group | None:
    """Figures of what sums the tasks of a run up, and of each task, one per axis; None where no run has a gap."""
    figures = []
    for run in runs:
        for task, rows in _by_task(run.tables.get("gaps.csv", pd.DataFrame({"task": []}))):
            name = "" if len(runs) == 1 else f" · {run.name}"
            figures += _figures(f"Share closed: {task}{name}", rows, unit, styles(methods_of(runs)))
    about = (
        f"What a method gains over {LOWER}, divided by what the full cache gains over it, both of them means of the "
        f"{unit.noun}: {LOWER} closes 0, the full cache 1. 95% intervals for new examples of these tasks."
    )
    return (
        Group(f"{unit.key}gaps", f"Share closed of the gap in {unit.noun}", about, tuple(figures)) if figures else None
    )


def closed(table: pd.DataFrame, unit: Unit, methods: Sequence[str]) -> list[Lines]:
    """The gain over the gap by budget, over all tasks of one run, a figure per axis of budgets.

    Args:
        table: gaps.csv of the run.
        methods: of the run.
    """
    return _figures(f"Share closed: {OVER_ALL}", table[table["task"] == OVER_ALL], unit, styles(methods))


def _by_task(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each figure, sums first; of one task there are none, for they would say the same."""
    names = [str(task) for task in table["task"].unique()]
    single = [name for name in names if not is_sum(name)]
    # A mean of shares is left out where tasks without a gap are in it, whose shares may be anything.
    sums = [name for name in names if name.startswith(OVER_ALL)] + [name for name in names if name == OVER_GAPS]
    return [(name, table[table["task"] == name]) for name in (*(sums if len(single) > 1 else ()), *single)]


def _figures(title: str, rows: pd.DataFrame, unit: Unit, style: dict[str, int]) -> list[Lines]:
    found = axes([rows])
    titles = [title] + [f"{title}, by {axis.noun}" for axis in found[1:]]
    return [_figure(name, axis.rows(rows), unit, style, axis) for name, axis in zip(titles, found, strict=True)]


def _figure(title: str, rows: pd.DataFrame, unit: Unit, style: dict[str, int], axis: Axis) -> Lines:
    summing = is_sum(str(rows["task"].iloc[0]))
    series = []
    for method, line in rows[~rows["method"].isin([LOWER, UPPER])].groupby("method", sort=False):
        ordered = line.sort_values("x")
        # Means of shares are over tasks that have a gap, and have no interval of their own.
        there = (ordered["gap_ci_low"] > 0) | (ordered["gap_ci_low"].isna() & (ordered["gap"] > 0) & summing)
        shown = ordered[["closed", "closed_ci_low", "closed_ci_high"]].where(there)
        share, low, high = (numbers(shown[name]) for name in shown)
        number = style.get(str(method), 0)
        series.append(
            Series(
                label(str(method)),
                tuple(ordered["x"]),
                share,
                low,
                high,
                number,
                ceiling=is_ceiling(str(method)),
                dash=look(number).dash,
                about=described(str(method)),
            )
        )
    ends = [
        Series.plain(name, [0], [share], reference=True, dash=place, about=described(name))
        for place, (name, share) in enumerate(((UPPER, 1.0), (LOWER, 0.0)))
    ]
    about = f"{_gaps(rows, unit)} Where the interval reaches 0 there is nothing to close, and no share is shown."
    told = "share of the gap closed"
    return Lines(title, about, axis.label, told, ranked((*ends, *series)), log_x=True, apart=True, x_sign=axis.sign)


def _gaps(rows: pd.DataFrame, unit: Unit) -> str:
    """How wide the gap is at each budget."""
    told = []
    for row in rows.drop_duplicates("budget").sort_values("budget").to_dict("records"):
        low, high = number(row["gap_ci_low"]), number(row["gap_ci_high"])
        told.append(f"{row['budget']}: {row['gap']:.{unit.decimals}f}" + (f" ({low} to {high})" if low else ""))
    return f"The gap by budget, in {unit.gain}, with its 95% interval where there is one: {', '.join(told)}."
