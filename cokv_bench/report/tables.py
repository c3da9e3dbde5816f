"""The tables of a run: those in its folder where they are of its records, else counted again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.budget import column_type
from cokv_bench.option import budgets
from cokv_bench.scores.gaps import LOWER, UPPER, is_sum
from cokv_bench.scores.means import is_mean
from cokv_bench.scores.tables import (
    COMPARISONS,
    GAPS,
    LENGTHS,
    QUESTIONS,
    Tables,
    by_question_and_length,
    count_tables,
    frame_of,
    named_baselines,
    own_tables,
    wide_table,
)
from cokv_bench.scores.units import PERCENT, Unit

_CELL = ["method", "budget", "task"]
_FLAGS = {"within_noise": "boolean", "discriminates": "boolean"}
# What a report takes from each stored table; counts, texts and truth values are in every row, numbers may be missing.
# Tables of earlier versions lack some of it and are counted again: they have other tests, and too narrow intervals.
_SCORES = {"n": int, "ci_low": float, "ci_high": float, "kept_per_head": float, "exact_total": bool}
_COLUMNS: dict[str, dict[str, type]] = {
    COMPARISONS: {
        "family": str,
        "baseline": str,
        "n": int,
        **dict.fromkeys(("difference", "ci_low", "ci_high", "standard_error"), float),
        **dict.fromkeys(("p_value", "p_adjusted", "p_error", "least_p"), float),
        **dict.fromkeys(("wins", "ties", "losses", "win_probability"), float),
        **dict.fromkeys(("within_noise", "discriminates"), float),
    },
    GAPS: dict.fromkeys(
        ("gap", "gap_ci_low", "gap_ci_high", "gained", "closed", "closed_ci_low", "closed_ci_high"), float
    ),
    QUESTIONS: {
        "n": int,
        **dict.fromkeys((f"{name}{end}" for name in ("first", "later") for end in ("", "_ci_low", "_ci_high")), float),
    },
    LENGTHS: {"length": str, "n": int, **dict.fromkeys(("score", "ci_low", "ci_high"), float)},
}


def read_tables(
    folder: Path, unit: Unit, records: Sequence[Mapping[str, Any]], configuration: dict[str, Any]
) -> Tables:
    """The tables of a run; those that its folder has are read, for counting again takes long."""
    frame = frame_of(records)
    stored = _read(folder, unit, frame)
    if stored is None:
        return count_tables(records, configuration, named_baselines(folder, configuration))
    tables = stored | {"table.csv": wide_table(stored["scores.csv"])}
    cells = frame.groupby(_CELL, dropna=False).size()
    for name, count in by_question_and_length(configuration).items():
        table = _stored(folder / name, _COLUMNS[name])
        if table is None or not _fits(table, cells) or not _adds_up(table, cells):
            table = count(frame, configuration)
        if len(table):
            tables[name] = table
    # Those of benchmarks are soon counted, and only their families know what they hold.
    return tables | own_tables(frame) if unit is PERCENT else tables


def _read(folder: Path, unit: Unit, frame: pd.DataFrame) -> Tables | None:
    """The tables that are there; None where one is missing or is not of these records."""
    cells = frame.groupby(_CELL, dropna=False).size()
    wanted = {unit.file: {unit.column: float, **_SCORES}, COMPARISONS: _COLUMNS[COMPARISONS]}
    if unit is not PERCENT and {LOWER, UPPER} <= set(frame["method"]):
        wanted[GAPS] = _COLUMNS[GAPS]
    tables = {}
    for name, columns in wanted.items():
        if name == COMPARISONS and not _comparable(frame) and not (folder / name).is_file():
            continue
        table = _stored(folder / name, columns)
        if table is None or not _fits(table, cells):
            return None
        tables[name] = table
    scores = tables.pop(unit.file)
    if not _counts(scores, cells) or not _has_scores(tables.get(COMPARISONS), scores):
        return None
    return {"scores.csv": scores.rename(columns={unit.column: "score"}), **tables}


def _comparable(frame: pd.DataFrame) -> bool:
    """Whether a budget has two methods."""
    return bool((frame[frame["budget"].notna()].groupby("budget")["method"].nunique() > 1).any())


def _stored(path: Path, columns: Mapping[str, type]) -> pd.DataFrame | None:
    """A stored table with these columns by their types, and method, budget and task; None where it is another."""
    types: dict[Any, Any] = {"method": str, "task": str, **_FLAGS}
    types |= {name: kind for name, kind in columns.items() if name not in types}
    try:
        table = with_budgets(pd.read_csv(path, dtype={**types, "budget": str}))
        table[[*_CELL, *columns]]
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    numbers = table[[name for name, kind in columns.items() if kind is float]].astype(float)
    return None if np.isinf(numbers.to_numpy(float, na_value=np.nan)).any() else table


def with_budgets(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read with its budgets as texts.

    Raises:
        ValueError: a text that is none.
        KeyError: the table has no budgets.
    """
    found = [None if pd.isna(text) else budgets(text, "budget")[0] for text in table["budget"]]
    return table.assign(budget=pd.Series(found, table.index, column_type(found)))


def _fits(table: pd.DataFrame, cells: pd.Series) -> bool:
    """Whether a table speaks of the methods, budgets and tasks that the records have, and of nothing else."""
    methods, budgets, tasks = (set(cells.index.get_level_values(name).dropna()) for name in _CELL)
    named = {task for task in table["task"] if not (isinstance(task, str) and (is_mean(task) or is_sum(task)))}
    mine = {*table["method"], *table.get("baseline", ())}
    return len(table) > 0 and mine <= methods and named <= tasks and set(table["budget"].dropna()) <= budgets


def _has_scores(compared: pd.DataFrame | None, scores: pd.DataFrame) -> bool:
    """Whether both methods of each comparison have a score there; earlier versions took means over fewer tasks."""
    if compared is None:
        return True
    single, scored = (table[table["budget"].notna()] for table in (compared, scores))
    there = set(zip(scored["method"], scored["budget"], scored["task"], strict=True))
    return all(
        there.issuperset(zip(single[column], single["budget"], single["task"], strict=True))
        for column in ("method", "baseline")
    )


def _counts(scores: pd.DataFrame, cells: pd.Series) -> bool:
    """Whether the scores are those of all records: a row a method, budget and task, over as many examples."""
    single = scores[[not is_mean(task) for task in scores["task"]]]
    return _examples(single) == _examples(cells.reset_index(name="n")) and not scores.duplicated(_CELL).any()


def _adds_up(table: pd.DataFrame, cells: pd.Series) -> bool:
    """Whether the parts of each cell of a table have as many examples as the cell."""
    counted = table.groupby(_CELL, dropna=False)["n"].sum().reset_index()
    return _examples(counted).items() <= _examples(cells.reset_index(name="n")).items()


def _examples(table: pd.DataFrame) -> dict[tuple[Any, ...], int]:
    """The number of examples by method, budget (0 for none) and task."""
    rows = table.fillna({"budget": 0})[[*_CELL, "n"]].itertuples(index=False)
    return {tuple(row[:3]): row[3] for row in rows}
