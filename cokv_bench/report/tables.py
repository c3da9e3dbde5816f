"""The tables of a run: those in its folder where they are of its records, else counted again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.report.units import PERCENT, Unit
from cokv_bench.runs.checked import tabular
from cokv_bench.scores.comparisons import choose_baseline, comparisons_table
from cokv_bench.scores.gaps import LOWER, UPPER, gaps_table, is_sum
from cokv_bench.scores.means import is_mean
from cokv_bench.scores.tables import own_tables, scores_table, wide_table

_CELL = ["method", "budget", "task"]
_COMPARISONS = "comparisons.csv"
_FLAGS = {"within_noise": "boolean", "discriminates": "boolean"}
_OF_SCORES = ("scores.csv", _COMPARISONS)
_OF_LOG_PROBABILITIES = ("logprobs.csv", _COMPARISONS, "gaps.csv")
# What a report takes from each stored table; counts, texts and truth values are in every row, numbers may be missing.
# Tables of earlier versions lack some of it and are counted again: they have other tests, and too narrow intervals.
_SCORES = {"n": int, "ci_low": float, "ci_high": float, "kept_per_head": float, "exact_total": bool}
_COLUMNS: dict[str, dict[str, type]] = {
    "scores.csv": {"score": float, **_SCORES},
    "logprobs.csv": {"logprob": float, **_SCORES},
    _COMPARISONS: {
        "family": str,
        "baseline": str,
        "n": int,
        **dict.fromkeys(("difference", "ci_low", "ci_high", "standard_error"), float),
        **dict.fromkeys(("p_value", "p_adjusted", "p_error", "least_p"), float),
        **dict.fromkeys(("wins", "ties", "losses", "win_probability"), float),
        **dict.fromkeys(("within_noise", "discriminates"), float),
    },
    "gaps.csv": dict.fromkeys(
        ("gap", "gap_ci_low", "gap_ci_high", "gained", "closed", "closed_ci_low", "closed_ci_high"), float
    ),
}


def read_tables(
    folder: Path, unit: Unit, records: list[dict[str, Any]], configuration: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """The tables of a run by file name; those that its folder has are read, for counting again takes long.

    Log-probabilities come under the names that scores have: scores.csv is what the folder calls logprobs.csv, its
    column `score` in nats a token.
    """
    frame, baselines = _frame(records), _baselines(folder, configuration)
    if unit is PERCENT:
        stored = _read(folder, _OF_SCORES, frame) or _count_scores(frame, configuration, baselines)
        # Those of benchmarks are soon counted, and only their families know what they hold.
        tables = stored | own_tables(frame)
    else:
        found = _read(folder, _OF_LOG_PROBABILITIES, frame)
        complete = {_COMPARISONS, "gaps.csv"} <= set(found)
        tables = found if complete else _count_log_probabilities(frame, configuration, baselines)
    return tables | {"table.csv": _wide(tables["scores.csv"])}


def _baselines(folder: Path, configuration: dict[str, Any]) -> list[str]:
    """The methods that the run's tables compare with; where they do not tell, the one that it would choose."""
    try:
        named = pd.read_csv(folder / _COMPARISONS, usecols=["baseline"])["baseline"].unique()
    except (OSError, ValueError):
        named = np.array([])
    known = [str(name) for name in named if name in configuration["methods"]]
    chosen = choose_baseline(configuration["methods"], None)
    return known or ([chosen] if chosen else [])


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    """As `wide_table` makes of records: a row a method and budget, a column a task or mean."""
    cells = scores.groupby(["method", "budget", "task"], dropna=False, sort=False)["score"].first()
    wide = cells.unstack("task")[scores["task"].unique()].reset_index()
    return wide.sort_values("budget", kind="stable", na_position="first", ignore_index=True)


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([tabular(record) for record in records]).astype({"budget": "Int64"})


def _read(folder: Path, names: tuple[str, ...], frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables that are there, the first as scores.csv; none where it is missing or one is not of these records."""
    cells = frame.groupby(_CELL, dropna=False).size()
    tables = {}
    for name in names:
        path = folder / name
        if path.is_file():
            table = _stored(path, _COLUMNS[name])
            if table is None or not _fits(table, cells):
                return {}
            tables[name] = table
    scores = tables.pop(names[0], None)
    if scores is None or not _counts(scores, cells):
        return {}
    return {"scores.csv": scores.rename(columns={"logprob": "score"}), **tables}


def _stored(path: Path, columns: Mapping[str, type]) -> pd.DataFrame | None:
    """A stored table with these columns by their types, and method, budget and task; None where it is another."""
    types: dict[Any, Any] = {"method": str, "task": str, "budget": "Int64", **_FLAGS}
    types |= {name: kind for name, kind in columns.items() if name not in types}
    try:
        table = pd.read_csv(path, dtype=types)
        table[[*_CELL, *columns]]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    numbers = table[[name for name, kind in columns.items() if kind is float]].astype(float)
    return None if np.isinf(numbers.to_numpy(float, na_value=np.nan)).any() else table


def _fits(table: pd.DataFrame, cells: pd.Series) -> bool:
    """Whether a table speaks of the methods, budgets and tasks that the records have, and of nothing else."""
    methods, budgets, tasks = (set(cells.index.get_level_values(name).dropna()) for name in _CELL)
    named = {task for task in table["task"] if not (isinstance(task, str) and (is_mean(task) or is_sum(task)))}
    mine = {*table["method"], *table.get("baseline", ())}
    return len(table) > 0 and mine <= methods and named <= tasks and set(table["budget"].dropna()) <= budgets


def _counts(scores: pd.DataFrame, cells: pd.Series) -> bool:
    """Whether the scores are those of all records: a row a method, budget and task, over as many examples."""
    single = scores[[not is_mean(task) for task in scores["task"]]]
    counted = {tuple(row[:3]): row[3] for row in single.fillna({"budget": 0})[[*_CELL, "n"]].itertuples(index=False)}
    there = {tuple(row[:3]): row[3] for row in cells.reset_index().fillna({"budget": 0}).itertuples(index=False)}
    return counted == there and not scores.duplicated(_CELL).any()


def _count_scores(frame: pd.DataFrame, configuration: dict[str, Any], baselines: list[str]) -> dict[str, pd.DataFrame]:
    tables = {
        "scores.csv": scores_table(frame, configuration),
        "table.csv": wide_table(frame, configuration),
        _COMPARISONS: _compared(frame, configuration, baselines),
    }
    return {name: table for name, table in tables.items() if len(table)}


def _count_log_probabilities(
    frame: pd.DataFrame, configuration: dict[str, Any], baselines: list[str]
) -> dict[str, pd.DataFrame]:
    both = {LOWER, UPPER} <= set(frame["method"])
    tables = {
        "scores.csv": scores_table(frame, configuration),
        _COMPARISONS: _compared(frame, configuration, baselines),
        "gaps.csv": gaps_table(frame) if both else pd.DataFrame(),
    }
    return {name: table for name, table in tables.items() if len(table)}


def _compared(frame: pd.DataFrame, configuration: dict[str, Any], baselines: list[str]) -> pd.DataFrame:
    tables = [comparisons_table(frame, configuration, each) for each in baselines]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
