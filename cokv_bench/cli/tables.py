"""Rich tables of results."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from cokv_bench.budgets import HeadBudgets, HeadValues
from cokv_bench.report.layout import best_score, by_cell
from cokv_bench.report.marks import BLIND, BLIND_MARK, blind_tasks
from cokv_bench.report.units import PERCENT, Unit, capital
from cokv_bench.scores.comparisons import PRIMARY
from cokv_bench.scores.means import is_mean, overall

# Wider than any table.
_UNBOUNDED = 10_000


def print_scores(console: Console, tables: dict[str, pd.DataFrame], unit: Unit = PERCENT) -> None:
    """Print the wide table of a run with the tokens that were really kept.

    The best of each budget is bold, as in table.md: the full cache and unequal totals do not compete.

    More tasks than the terminal is wide for are summed up by their means.

    Args:
        tables: by file name.
        unit: of the scores.
    """
    every = [column for column in tables["table.csv"].columns if column not in {"method", "budget"}]
    alone = [column for column in every if not is_mean(column)]
    whole = _scores(tables, every, unit)
    width = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), whole).maximum
    if width <= console.width or len(alone) == len(every):
        console.print(whole)
        _print_legend(console, tables, every)
        return
    console.print(_scores(tables, overall(alone), unit))
    _print_legend(console, tables, overall(alone))
    files = "table.csv, table.md and scores.csv" if unit is PERCENT else "logprobs.csv"
    console.print(f"The {len(alone)} tasks one by one are in {files}.")


def _print_legend(console: Console, tables: dict[str, pd.DataFrame], shown: list[str]) -> None:
    if blind_tasks(tables).intersection(shown):
        console.print(f"{BLIND_MARK} {BLIND}.", highlight=False)


def _scores(tables: dict[str, pd.DataFrame], tasks: list[str], unit: Unit) -> Table:
    wide = tables["table.csv"].fillna({"budget": 0})
    tidy = tables["scores.csv"].fillna({"budget": 0}).set_index(["method", "budget", "task"]).sort_index()
    measured = by_cell(tables["scores.csv"])
    counts = tidy.groupby("task")["n"].max()
    table = Table(title=f"{unit.caption} [95% interval for new examples of these tasks]", title_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column("budget", justify="right", no_wrap=True)
    blind = blind_tasks(tables)
    for task in tasks:
        name = escape(task) + BLIND_MARK * (task in blind)
        table.add_column(name if is_mean(task) else f"{name}\nn={counts[task]}", justify="right", overflow="fold")
    table.add_column("kept\na head", justify="right")
    for budget, rows in wide.groupby("budget"):
        table.add_section()
        best = {task: best_score(rows, task, measured) for task in tasks}
        for row in rows.to_dict("records"):
            cells = tidy.loc[(row["method"], budget)]
            own = cells[[not is_mean(task) for task in cells.index]]
            kept = f"{np.average(own['kept_per_head'], weights=own['n']):.1f}"
            if not own["exact_total"].all():
                kept += " unequal"
            scores = [
                _cell(
                    row[task],
                    cells.loc[task] if task in cells.index else None,
                    row["method"] != "full" and row[task] == best[task],
                    unit,
                )
                for task in tasks
            ]
            table.add_row(escape(row["method"]), str(budget) if budget else "", *scores, kept)
    return table


def _cell(score: float, interval: pd.Series | None, best: bool, unit: Unit) -> str:
    number = f"{score:.{unit.decimals}f}"
    text = f"[bold]{number}[/bold]" if best else number
    if interval is None or pd.isna(interval["ci_low"]):
        return text
    low, high = (f"{interval[end]:.{unit.decimals - 1}f}" for end in ("ci_low", "ci_high"))
    return f"{text} [dim]{unit.between(low, high)}[/dim]"


def print_comparisons(console: Console, comparisons: pd.DataFrame, unit: Unit = PERCENT) -> None:
    """Print what each method gains over the baseline, a table for each mean over tasks and each task outside them.

    The primary tests come first, in a run of several budgets those of the mean over budgets.

    Args:
        comparisons: with one baseline.
        unit: of the scores.
    """
    wholes = overall(task for task in comparisons["task"].unique() if not is_mean(task))
    summing = comparisons[comparisons["task"].isin(wholes)]
    for whole in wholes:
        rows = summing[summing["task"] == whole]
        gain = f"{capital(unit.gain)} over {rows['baseline'].iloc[0]}"
        sizes = summing["family"].value_counts()
        told = f"{gain}, {whole}; p corrected for {sizes[PRIMARY]} comparisons"
        if len(sizes) > 1:
            told += f", at single budgets for {sizes.drop(PRIMARY).sum()}"
        _print_comparison(console, rows, told, unit)


def _print_comparison(console: Console, rows: pd.DataFrame, told: str, unit: Unit) -> None:
    table = Table(title=escape(told), title_justify="left")
    # Where the terminal is narrow names are folded, and no number is cut.
    table.add_column("method", overflow="fold")
    for column in ("budget", unit.short, "95%", "p", "won/tied/lost", ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in rows.to_dict("records"):
        if pd.isna(row["difference"]):
            table.add_row(escape(row["method"]), _budget(row), "", "", "", "", "unequal totals, not compared")
            continue
        ends = "..".join(f"{row[end]:+.{unit.decimals - 1}f}" for end in ("ci_low", "ci_high"))
        table.add_row(
            escape(row["method"]),
            _budget(row),
            f"{row['difference']:+.{unit.decimals}f}",
            "" if pd.isna(row["ci_low"]) else ends,
            f"{row['p_adjusted']:.3f}",
            f"{row['wins']:.0f}/{row['ties']:.0f}/{row['losses']:.0f}",
            _verdict(row),
        )
    console.print(table)


def _budget(row: Mapping[Any, Any]) -> str:
    return "mean" if pd.isna(row["budget"]) else str(row["budget"])


def _verdict(row: Mapping[Any, Any]) -> str:
    if not row["within_noise"]:
        return ""
    return "noise" if row["discriminates"] else "cannot discriminate"


def print_reference(console: Console, reference: pd.DataFrame) -> None:
    """Print the run's scores beside published ones, with the differences where the model is the same."""
    several = reference["published_model"].nunique() > 1
    table = Table(title=escape(f"Beside {', '.join(reference['source'].unique())}"), title_justify="left")
    for column in ("method", "budget", "task", *(["published for"] if several else [])):
        table.add_column(column, justify="right" if column == "budget" else "left")
    for column in ("published", "n", "here", "95%", "points"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in reference.to_dict("records"):
        table.add_row(
            escape(row["method"]),
            "" if pd.isna(row["budget"]) else str(row["budget"]),
            escape(row["task"]),
            *([escape(row["published_model"])] if several else []),
            f"{row['published']:.2f}",
            str(row["n"]),
            f"{row['score']:.2f}",
            "" if pd.isna(row["ci_low"]) else f"{row['ci_low']:.0f}\u2013{row['ci_high']:.0f}",
            "" if pd.isna(row["difference"]) else f"{row['difference']:+.2f}",
        )
    console.print(table)
    if not reference["same_model"].any():
        models = " and ".join(reference["published_model"].unique())
        console.print(
            f"Published for {models}, another model than this run's: no differences are taken.",
            highlight=False,
            markup=False,
        )


def print_values(console: Console, values: HeadValues) -> None:
    """Print the heads of most value with their standard errors, and the choice of alpha."""
    flat = sorted(
        ((values.values[layer, head], layer, head) for layer, head in np.ndindex(*values.values.shape)), reverse=True
    )
    table = Table(title=f"Most valuable of {len(flat)} heads ({values.samples} pairs)", title_justify="left")
    for column in ("layer", "KV head", "value", "standard error"):
        table.add_column(column, justify="right")
    for value, layer, head in flat[:10]:
        table.add_row(str(layer), str(head), f"{value:.4f}", f"{values.standard_errors[layer, head]:.4f}")
    console.print(table)
    if values.status:
        console.print(_status(values), highlight=False, markup=False)
    for budget, curve in values.alphas.items():
        shown = ", ".join(
            f"[bold]{alpha}: {utility:.3f}[/bold]" if alpha == values.alpha(budget) else f"{alpha}: {utility:.3f}"
            for alpha, utility in curve.items()
        )
        console.print(f"Utility by alpha at budget {budget}: {shown}", highlight=False)


def _status(values: HeadValues) -> str:
    """Why sampling stopped and how far the ledger had come, in a sentence or two."""
    names = ("standard_error", "rank_correlation", "reliability", "mean_absolute_difference", "published_threshold")
    error, correlation, reliability, difference, threshold = (
        "unknown" if values.status.get(name) is None else f"{values.status[name]:.4g}" for name in names
    )
    return (
        f"Sampling '{values.status.get('sampling')}' ended by {values.status.get('stopped_by')}. "
        f"Median standard error {error}; "
        f"the ledger's halves have a rank correlation of {correlation} (expected between ledgers of this length: "
        f"{reliability}) and differ by {difference} on average (published stop: below {threshold})."
    )


def print_budgets(console: Console, file: HeadBudgets) -> None:
    """Print how a total is split over layers and heads."""
    table = Table(title=f"Tokens a head at budget {file.budget}, {file.total} in all", title_justify="left")
    table.add_column("layer", justify="right")
    for head in range(file.tokens.shape[1]):
        table.add_column(f"head {head}", justify="right")
    for layer, row in enumerate(file.tokens.tolist()):
        table.add_row(str(layer), *(f"[dim]{count}[/dim]" if count == file.window else str(count) for count in row))
    console.print(table)
