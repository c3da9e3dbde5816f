"""What the tables of a run show, cell by cell, before it is written as Markdown or LaTeX, into a page or a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cokv_bench.budget import Budget
from cokv_bench.policies.names import FULL, competing, is_ceiling, label, parse
from cokv_bench.report.grids import Cell, Grid, budget_text, decimal, ends, p_text
from cokv_bench.report.marks import BLIND, BLIND_MARK, blind_cells, blind_tasks
from cokv_bench.report.methods import described
from cokv_bench.report.questions import questions_grid
from cokv_bench.scores.comparisons import BUDGET, PRIMARY
from cokv_bench.scores.means import is_mean, overall
from cokv_bench.scores.units import PERCENT, Unit, capital

_MIB = 2**20
#: A cell's key in the run's tables: method, budget (0 for none), task.
_Key = tuple[str, Budget, str]


@dataclass(frozen=True)
class Layout:
    """The wide table of scores, tables of costs (one for each mean and each task outside of means), and their notes.

    Attributes:
        summary: the table of scores with its means and the tasks outside of means alone.
        kept: what stands beside both where there is room: tokens per head, from the least to the most that any mean or
            task outside of means has; a cell a row, in their sections.
        primary: the primary tests, a table a baseline and in it a section per benchmark; none where nothing is
            compared.
        comparisons: what sums the run up against each baseline, with the secondary tests at single budgets.
        questions: the first question of contexts and the later ones; none where contexts have one.
        differs: what the mark of `Cell.differs` means; empty where no cell has it.
        uncompared: the same for `Cell.uncompared`.
        notes: sentences about both tables.
    """

    scores: Grid
    summary: Grid
    kept: tuple[tuple[Cell, ...], ...]
    primary: tuple[Grid, ...]
    comparisons: tuple[Grid, ...]
    questions: tuple[Grid, ...]
    costs: tuple[Grid, ...]
    differs: str
    uncompared: str
    notes: tuple[str, ...]

    @property
    def legend(self) -> list[str]:
        """What the marks of the cells mean, a sentence each."""
        return [f"{mark} {words}." for mark, words in (("†", self.differs), ("‡", self.uncompared)) if words]


def lay_out(tables: Mapping[str, pd.DataFrame], configuration: Mapping[str, Any], unit: Unit = PERCENT) -> Layout:
    """Decide what stands in each cell.

    Args:
        tables: of a run, by file name: `scores.csv`, `table.csv` and, where it has them, `comparisons.csv`, whose first
            baseline gives the marks, and `questions.csv`.
        configuration: of the run.
        unit: of its numbers.
    """
    wide = tables["table.csv"].fillna({"budget": 0})
    columns = [column for column in wide.columns if column not in {"method", "budget"}]
    tasks = [column for column in columns if not is_mean(column)]
    wholes = overall(tasks)
    measured = _by_cell(tables["scores.csv"])
    sized = "kv_bytes" in tables["scores.csv"]
    every = tables.get("comparisons.csv", pd.DataFrame({"baseline": []}))
    baselines = [str(name) for name in every["baseline"].unique()]
    first = every[every["baseline"] == baselines[0]] if baselines else every
    compared = _by_cell(first)
    sections: list[list[dict[str, Cell]]] = []
    costs: dict[str, list[tuple[tuple[Cell, ...], ...]]] = {whole: [] for whole in wholes}
    kept: list[tuple[Cell, ...]] = []
    silent = blind_cells(tables)
    for _, part in wide.groupby("budget"):
        rows = part.to_dict("records")
        best = {task: _best(part, task, measured) for task in columns}
        sections.append([_score_row(row, columns, best, measured, compared, silent, unit) for row in rows])
        for whole, of_whole in costs.items():
            of_whole.append(tuple(_cost_row(row, whole, measured, unit, sized=sized) for row in rows))
        kept.append(tuple(_kept(row, wholes, measured) for row in rows))
    blind = blind_tasks({"comparisons.csv": first})

    def table(shown: Sequence[str]) -> Grid:
        header = ("method", "budget", *(column + BLIND_MARK * (column in blind) for column in shown))
        keys = ("method", "budget", *shown)
        return Grid(unit.caption, header, tuple(tuple(tuple(row[key] for key in keys) for row in s) for s in sections))

    whole_table = table(columns)
    by_baseline = [every[every["baseline"] == baseline] for baseline in baselines]
    # A run that was stopped early may lack them all.
    primary = tuple(grid for each in by_baseline if (grid := _primary(each, wholes, unit)).sections)
    cells = [cell for grid in (whole_table, *primary) for cell in grid.cells]
    named = "".join(baselines[:1]) + ", or from the baseline that a table of tests names" * (len(baselines) > 1)
    return Layout(
        whole_table,
        table([column for column in wholes if column in columns]),
        tuple(kept),
        primary,
        tuple(grid for each in by_baseline for grid in _comparisons(each, wholes, unit)),
        (questions_grid(tables["questions.csv"], unit),) if "questions.csv" in tables else (),
        tuple(
            Grid(
                f"{unit.title} with its 95% interval, tokens kept per KV head" + (", and size of the KV cache" * sized),
                ("method", "budget", whole, "95% interval", "tokens per head", *["KV cache (MiB)"] * sized),
                tuple(of_whole),
            )
            for whole, of_whole in costs.items()
        ),
        f"differs from {named} (paired test, corrected p < 0.05)" if any(c.differs for c in cells) else "",
        f"unequal totals, not compared with {''.join(baselines[:1])}" if any(c.uncompared for c in cells) else "",
        (*_notes(tasks, tables["scores.csv"], configuration), *[f"{BLIND_MARK} {BLIND}."] * bool(blind)),
    )


def _primary(compared: pd.DataFrame, wholes: list[str], unit: Unit) -> Grid:
    """A row per benchmark and method: difference from the baseline, interval and p-value."""
    tests = compared[compared["family"] == PRIMARY]
    sections = [
        tuple(_primary_row(row, unit) for row in tests[tests["task"] == whole].to_dict("records")) for whole in wholes
    ]
    averaged = ", mean over the budgets" if tests["budget"].isna().all() else ""
    caption = (
        f"Primary tests: {unit.gain} over {compared['baseline'].iloc[0]}{averaged}; p corrected for "
        f"{_comparisons_made(tests['difference'].notna().sum())}"
    )
    header = ("method", "tasks", unit.gain, "95% interval", "corrected p")
    return Grid(caption, header, tuple(section for section in sections if section))


def _primary_row(row: Mapping[Any, Any], unit: Unit) -> tuple[Cell, ...]:
    if pd.isna(row["difference"]):
        return (_method(row["method"]), Cell(row["task"]), Cell("", uncompared=True), Cell(""), Cell(""))
    return (
        _method(row["method"]),
        Cell(row["task"]),
        Cell(decimal(row["difference"], unit.decimals), differs=not row["within_noise"]),
        Cell(ends(row["ci_low"], row["ci_high"], unit.decimals)),
        Cell(p_text(row["p_adjusted"])),
    )


def _comparisons(compared: pd.DataFrame, wholes: list[str], unit: Unit) -> list[Grid]:
    """A table per benchmark: each method against the baseline, over the budgets (the primary tests) and at each."""
    summing = compared[compared["task"].isin(wholes)]
    # What was not compared is not tested.
    sizes = summing.loc[summing["difference"].notna(), "family"].value_counts().reindex([PRIMARY, BUDGET], fill_value=0)
    secondary = f", at single budgets for {sizes[BUDGET]}" if (summing["family"] == BUDGET).any() else ""
    told = f"{capital(unit.gain)} over {compared['baseline'].iloc[0]}"
    corrected = f"p corrected for {_comparisons_made(sizes[PRIMARY])}{secondary}"
    header = ("method", "budget", unit.short, "95%", "p", "won/tied/lost", "")
    grids = []
    for whole in wholes:
        rows = summing[summing["task"] == whole].to_dict("records")
        if rows:
            cells = tuple(_comparison_row(row, unit) for row in rows)
            grids.append(Grid(f"{told}, {whole}; {corrected}", header, (cells,)))
    return grids


def _comparisons_made(count: int) -> str:
    return f"{count} comparison{'' if count == 1 else 's'}"


def _comparison_row(row: Mapping[Any, Any], unit: Unit) -> tuple[Cell, ...]:
    start = (row["method"], budget_text(row["budget"]) or "mean")
    if pd.isna(row["difference"]):
        return tuple(map(Cell, (*start, "", "", "", "", "unequal totals, not compared")))
    ends = "..".join(f"{row[end]:+.{unit.decimals - 1}f}" for end in ("ci_low", "ci_high"))
    verdict = "" if not row["within_noise"] else "noise" if row["discriminates"] else BLIND_MARK
    texts = (
        *start,
        f"{row['difference']:+.{unit.decimals}f}",
        "" if pd.isna(row["ci_low"]) else ends,
        f"{row['p_adjusted']:.3f}",
        f"{row['wins']:.0f}/{row['ties']:.0f}/{row['losses']:.0f}",
        verdict,
    )
    return tuple(map(Cell, texts))


def _by_cell(table: pd.DataFrame) -> dict[_Key, dict[str, Any]]:
    """The rows of a tidy table by method, budget (0 for none) and task."""
    rows = table.fillna({"budget": 0}).to_dict("records")
    return {(row["method"], row["budget"], row["task"]): {str(k): v for k, v in row.items()} for row in rows}


def _best(rows: pd.DataFrame, task: str, measured: Mapping[_Key, Mapping[str, Any]]) -> float:
    """The best score of a budget; NaN where nobody competes."""
    competing = [row[task] for row in rows.to_dict("records") if _competes(row, task, measured)]
    return float(pd.Series(competing, dtype=float).max())


def _competes(row: Mapping[Any, Any], task: str, measured: Mapping[_Key, Mapping[str, Any]]) -> bool:
    """Whether a row may be the best of its budget: neither the full cache, nor a ceiling, nor unequal totals."""
    exact = measured.get((row["method"], row["budget"], task), {}).get("exact_total", False)
    return bool(competing([row["method"]])) and bool(exact)


def _score_row(
    row: Mapping[Any, Any],
    columns: list[str],
    best: Mapping[str, float],
    measured: Mapping[_Key, Mapping[str, Any]],
    compared: Mapping[_Key, Mapping[str, Any]],
    silent: Mapping[tuple[Budget, str], str],
    unit: Unit,
) -> dict[str, Cell]:
    """The cells of a method and budget, by column."""
    cells = {"method": _method(row["method"]), "budget": Cell(str(row["budget"]) if row["budget"] else "")}
    for task in columns:
        comparison = compared.get((row["method"], row["budget"], task))
        uncompared = comparison is not None and bool(pd.isna(comparison["within_noise"]))
        found = measured.get((row["method"], row["budget"], task), {})
        low, high = (decimal(found.get(end), unit.decimals - 1) for end in ("ci_low", "ci_high"))
        cells[task] = Cell(
            decimal(row[task], unit.decimals),
            bold=_competes(row, task, measured) and row[task] == best[task],
            differs=comparison is not None and not uncompared and not comparison["within_noise"],
            uncompared=uncompared,
            interval=unit.between(low, high) if low and high else "",
            about=silent.get((row["budget"], task), ""),
            blind=(row["budget"], task) in silent,
        )
    return cells


def _method(name: str) -> Cell:
    return Cell(label(name), about=described(name), ceiling=is_ceiling(name))


def _cost_row(
    row: Mapping[Any, Any], whole: str, measured: Mapping[_Key, Mapping[str, Any]], unit: Unit, *, sized: bool
) -> tuple[Cell, ...]:
    total = measured.get((row["method"], row["budget"], whole), {})
    score, low, high = (decimal(total.get(name), unit.decimals) for name in ("score", "ci_low", "ci_high"))
    kept = decimal(total.get("kept_per_head"))
    unequal = "" if total.get("exact_total", True) else " unequal"
    texts = [
        str(row["budget"]) if row["budget"] else "",
        score,
        unit.between(low, high) if low and high else "",
        f"{kept}{unequal}".strip(),
    ]
    if sized:
        texts.append(decimal(total.get("kv_bytes", float("nan")) / _MIB))
    return (_method(row["method"]), *map(Cell, texts))


def _kept(row: Mapping[Any, Any], wholes: list[str], measured: Mapping[_Key, Mapping[str, Any]]) -> Cell:
    totals = [found for whole in wholes if (found := measured.get((row["method"], row["budget"], whole)))]
    kept = sorted(found["kept_per_head"] for found in totals)
    ends = dict.fromkeys(map(decimal, kept[:1] + kept[-1:]))
    return Cell("–".join(ends) + " unequal" * any(not found["exact_total"] for found in totals))


def _windows(configuration: Mapping[str, Any], methods: Iterable[str]) -> str:
    """The observation window of a run, or that methods had their own."""
    own = [_own(configuration, method) for method in methods if method != FULL]
    every = sorted(set().union(*own) or {configuration["window"]})
    if len(every) == 1:
        return f"window {every[0]}"
    return f"each method's own window, {every[0]} to {every[-1]} tokens"


def _own(configuration: Mapping[str, Any], method: str) -> set[int]:
    """The windows that a method had: by its name, its head files, what was chosen for it, or as published."""
    named = dict(parse(method).ranking.options).get("window")
    if named is not None:
        return {int(named)}
    files = configuration.get("head_budgets", {}).get(method, {})
    made_for = {each["window"] for each in (files, *files.values()) if isinstance(each, Mapping) and "window" in each}
    usual = configuration.get("windows", {}).get(method, configuration["window"])
    chosen = configuration.get("knobs", {}).get("chosen", {}).values()
    by_budget = [options for of_methods in chosen for options in of_methods.get(method, {}).values()]
    return made_for or {options.get("window", usual) for options in by_budget} or {usual}


def _notes(tasks: list[str], scores: pd.DataFrame, configuration: Mapping[str, Any]) -> tuple[str, ...]:
    counts = scores.groupby("task")["n"].max()
    if len({counts[task] for task in tasks}) == 1:
        examples = f"{counts[tasks[0]]} example{'' if counts[tasks[0]] == 1 else 's'} per task"
    else:
        examples = "examples: " + ", ".join(f"{task} {counts[task]}" for task in tasks)
    methods = list(scores["method"].unique())
    settings = (
        f"Model {configuration['model']['id']}; {examples}; split {configuration['split']}; "
        f"{_windows(configuration, methods)}. Intervals are 95% and hold for new examples of these tasks, not for "
        "other tasks."
    )
    if "other_bytes" in scores:
        held = decimal(scores["other_bytes"].mean() / _MIB)
        settings += f" Layers that are not evicted hold {held} MiB of a prompt besides, whatever the method."
    aside = ["the full cache"]
    if any(map(is_ceiling, methods)):
        aside.append("ceilings")
    if scores["exact_total"].all():
        return (settings, f"Bold: the best of each budget, {' and '.join(aside)} aside.")
    return (
        settings,
        f"Bold: the best of each budget, {', '.join(aside)} and unequal totals aside. "
        "Unequal: some prompt kept another number of tokens than its budget.",
    )
