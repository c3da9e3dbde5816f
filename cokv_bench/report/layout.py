"""What the tables of a run show, cell by cell, before it is written as Markdown or LaTeX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cokv_bench.report.marks import BLIND, BLIND_MARK, blind_tasks
from cokv_bench.report.units import PERCENT, Unit
from cokv_bench.scores.comparisons import PRIMARY
from cokv_bench.scores.means import is_mean, overall

_MIB = 2**20
#: A cell's key in the run's tables: method, budget (0 for none), task.
_Key = tuple[str, int, str]


@dataclass(frozen=True)
class Cell:
    """Plain text with its marks; whoever writes it escapes the text.

    Attributes:
        bold: the best of its budget.
        differs: the paired comparison with the baseline is not within noise.
        uncompared: there is no comparison, for the totals are unequal.
    """

    text: str
    bold: bool = False
    differs: bool = False
    uncompared: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: its header, and sections of rows, one a budget. The first column is text, the others are numbers."""

    caption: str
    header: tuple[str, ...]
    sections: tuple[tuple[tuple[Cell, ...], ...], ...]


@dataclass(frozen=True)
class Layout:
    """The wide table of scores, tables of costs (one for each mean and each task outside of means), and their notes.

    Attributes:
        primary: the primary tests against the baseline, a section per benchmark; none where nothing is compared.
        differs: what the mark of `Cell.differs` means; empty where no cell has it.
        uncompared: the same for `Cell.uncompared`.
        notes: sentences about both tables.
    """

    scores: Grid
    primary: tuple[Grid, ...]
    costs: tuple[Grid, ...]
    differs: str
    uncompared: str
    notes: tuple[str, ...]


def lay_out(tables: Mapping[str, pd.DataFrame], configuration: Mapping[str, Any], unit: Unit = PERCENT) -> Layout:
    """Decide what stands in each cell.

    Args:
        tables: of a run, by file name: `scores.csv`, `table.csv` and, where it has one, `comparisons.csv`; marks are
            those of its first baseline.
        configuration: of the run.
        unit: of its numbers.
    """
    wide = tables["table.csv"].fillna({"budget": 0}).astype({"budget": int})
    columns = [column for column in wide.columns if column not in {"method", "budget"}]
    tasks = [column for column in columns if not is_mean(column)]
    measured = by_cell(tables["scores.csv"])
    sized = "kv_bytes" in tables["scores.csv"]
    comparisons = tables.get("comparisons.csv", pd.DataFrame({"baseline": []}))
    baseline = str(comparisons["baseline"].iloc[0]) if len(comparisons) else ""
    comparisons = comparisons[comparisons["baseline"] == baseline]
    compared = by_cell(comparisons)
    scores = []
    costs: dict[str, list[tuple[tuple[Cell, ...], ...]]] = {whole: [] for whole in overall(tasks)}
    for _, part in wide.groupby("budget"):
        rows = part.to_dict("records")
        best = {task: best_score(part, task, measured) for task in columns}
        scores.append(tuple(_score_row(row, columns, best, compared, unit) for row in rows))
        for whole, sections in costs.items():
            sections.append(tuple(_cost_row(row, whole, measured, unit, sized=sized) for row in rows))
    blind = blind_tasks({"comparisons.csv": comparisons})
    primary = _primary(comparisons, overall(tasks), baseline, unit)
    sections = [*scores, *(section for grid in primary for section in grid.sections)]
    cells = [cell for section in sections for row in section for cell in row]
    marked = [column + BLIND_MARK * (column in blind) for column in columns]
    return Layout(
        Grid(unit.caption, ("method", "budget", *marked), tuple(scores)),
        primary,
        tuple(
            Grid(
                f"{unit.title} with its 95% interval, tokens kept a KV head" + (", and size of the KV cache" * sized),
                ("method", "budget", whole, "95% interval", "tokens a head", *["KV cache (MiB)"] * sized),
                tuple(sections),
            )
            for whole, sections in costs.items()
        ),
        f"differs from {baseline} (paired test, corrected p < 0.05)" if any(c.differs for c in cells) else "",
        f"unequal totals, not compared with {baseline}" if any(c.uncompared for c in cells) else "",
        (*_notes(tasks, tables["scores.csv"], configuration), *[f"{BLIND_MARK} {BLIND}."] * bool(blind)),
    )


def _primary(compared: pd.DataFrame, wholes: list[str], baseline: str, unit: Unit) -> tuple[Grid, ...]:
    """A row per benchmark and method: difference from the baseline, interval and p-value."""
    if compared.empty:
        return ()
    tests = compared[compared["family"] == PRIMARY]
    sections = [
        tuple(_primary_row(row, unit) for row in tests[tests["task"] == whole].to_dict("records")) for whole in wholes
    ]
    averaged = ", mean over the budgets" if tests["budget"].isna().all() else ""
    caption = (
        f"Primary tests: {unit.gain} over {baseline}{averaged}; p corrected for "
        f"{tests['difference'].notna().sum()} comparisons"
    )
    header = ("method", "tasks", unit.gain, "95% interval", "corrected p")
    return (Grid(caption, header, tuple(section for section in sections if section)),)


def _primary_row(row: Mapping[Any, Any], unit: Unit) -> tuple[Cell, ...]:
    if pd.isna(row["difference"]):
        return (Cell(row["method"]), Cell(row["task"]), Cell("", uncompared=True), Cell(""), Cell(""))
    low, high = (_number(row[end], unit.decimals) for end in ("ci_low", "ci_high"))
    return (
        Cell(row["method"]),
        Cell(row["task"]),
        Cell(_number(row["difference"], unit.decimals), differs=not row["within_noise"]),
        Cell(f"{low} to {high}" if low and high else ""),
        Cell("<0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}"),
    )


def by_cell(table: pd.DataFrame) -> dict[_Key, dict[str, Any]]:
    """The rows of a tidy table by method, budget (0 for none) and task."""
    rows = table.fillna({"budget": 0}).to_dict("records")
    return {(row["method"], int(row["budget"]), row["task"]): {str(k): v for k, v in row.items()} for row in rows}


def best_score(rows: pd.DataFrame, task: str, measured: Mapping[_Key, Mapping[str, Any]]) -> float:
    """The best score of a budget; FullKV has none, and unequal totals do not compete. NaN where nobody does."""
    competing = [
        row[task]
        for row in rows.to_dict("records")
        if row["method"] != "full" and measured.get((row["method"], row["budget"], task), {}).get("exact_total")
    ]
    return float(pd.Series(competing, dtype=float).max())


def _score_row(
    row: Mapping[Any, Any],
    columns: list[str],
    best: Mapping[str, float],
    compared: Mapping[_Key, Mapping[str, Any]],
    unit: Unit,
) -> tuple[Cell, ...]:
    cells = [Cell(row["method"]), Cell(str(row["budget"]) if row["budget"] else "")]
    for task in columns:
        comparison = compared.get((row["method"], row["budget"], task))
        uncompared = comparison is not None and bool(pd.isna(comparison["within_noise"]))
        cells.append(
            Cell(
                _number(row[task], unit.decimals),
                bold=row["method"] != "full" and row[task] == best[task],
                differs=comparison is not None and not uncompared and not comparison["within_noise"],
                uncompared=uncompared,
            )
        )
    return tuple(cells)


def _cost_row(
    row: Mapping[Any, Any], whole: str, measured: Mapping[_Key, Mapping[str, Any]], unit: Unit, *, sized: bool
) -> tuple[Cell, ...]:
    total = measured.get((row["method"], row["budget"], whole), {})
    score, low, high = (_number(total.get(name), unit.decimals) for name in ("score", "ci_low", "ci_high"))
    kept = _number(total.get("kept_per_head"))
    unequal = "" if total.get("exact_total", True) else " unequal"
    texts = [
        row["method"],
        str(row["budget"]) if row["budget"] else "",
        score,
        unit.between(low, high) if low and high else "",
        f"{kept}{unequal}".strip(),
    ]
    if sized:
        texts.append(_number(total.get("kv_bytes", float("nan")) / _MIB))
    return tuple(Cell(text) for text in texts)


def _number(value: float | None, decimals: int = 1) -> str:
    """Nothing where there is no number."""
    # Rounded before it is printed, so that the same mean summed in another order prints the same.
    return "" if value is None or pd.isna(value) else f"{round(value, 6):.{decimals}f}"


def _windows(configuration: Mapping[str, Any]) -> str:
    """The observation window of a run, or that methods had their own."""
    chosen = configuration.get("knobs", {}).get("chosen", {})
    own = {
        options["window"]
        for methods in chosen.values()
        for by_budget in methods.values()
        for options in by_budget.values()
        if "window" in options
    }
    every = sorted({configuration["window"], *own})
    if len(every) == 1:
        return f"window {every[0]}"
    return f"each method's own window, {every[0]} to {every[-1]} tokens"


def _notes(tasks: list[str], scores: pd.DataFrame, configuration: Mapping[str, Any]) -> tuple[str, ...]:
    counts = scores.groupby("task")["n"].max()
    if len({counts[task] for task in tasks}) == 1:
        examples = f"{counts[tasks[0]]} examples a task"
    else:
        examples = "examples: " + ", ".join(f"{task} {counts[task]}" for task in tasks)
    settings = (
        f"Model {configuration['model']['id']}; {examples}; split {configuration['split']}; "
        f"{_windows(configuration)}. Intervals are 95% and hold for new examples of these tasks, not for "
        "other tasks."
    )
    if scores["exact_total"].all():
        return (settings, "Bold: the best of each budget, the full cache aside.")
    return (
        settings,
        "Bold: the best of each budget, the full cache and unequal totals aside. "
        "Unequal: some prompt kept another number of tokens than its budget.",
    )
