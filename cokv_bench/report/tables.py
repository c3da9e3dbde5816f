"""The tables of a run: those in its folder where they are of its records, else counted again."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cokv_bench.report.units import PERCENT, Unit
from cokv_bench.runs import comparisons, gaps
from cokv_bench.runs.comparisons import choose_baseline, comparisons_table
from cokv_bench.runs.gaps import LOWER, UPPER, gaps_table
from cokv_bench.runs.means import is_mean
from cokv_bench.runs.tables import needle_table, scores_table, wide_table

_TYPES: dict[Any, Any] = {"budget": "Int64", "within_noise": "boolean", "discriminates": "boolean"}
_COMPARISONS = "comparisons.csv"
_OF_SCORES = ("scores.csv", "table.csv", _COMPARISONS, "needle.csv")
_OF_LOG_PROBABILITIES = ("logprobs.csv", _COMPARISONS, "gaps.csv")
#: What tables of this version have.
_COLUMNS = {_COMPARISONS: comparisons.COLUMNS, "gaps.csv": gaps.COLUMNS}


def read_tables(
    folder: Path, unit: Unit, records: list[dict[str, Any]], configuration: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """The tables of a run by file name; those that its folder has are read, for counting again takes long.

    Log-probabilities come under the names that scores have: scores.csv is what the folder calls logprobs.csv, its
    column `score` in nats a token.
    """
    baselines = _baselines(folder, configuration)
    if unit is PERCENT:
        found = _read(folder, _OF_SCORES, len(records), {"table.csv"})
        return found or _count_scores(_frame(records), configuration, baselines)
    found = _read(folder, _OF_LOG_PROBABILITIES, len(records), {_COMPARISONS, "gaps.csv"})
    tables = found or _count_log_probabilities(_frame(records), configuration, baselines)
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
    # No answers: no table needs them, and pandas takes no lone surrogates of damaged tokens.
    numbers = [{name: value for name, value in record.items() if name != "prediction"} for record in records]
    return pd.DataFrame(numbers).astype({"budget": "Int64"})


def _read(folder: Path, names: tuple[str, ...], records: int, needed: set[str]) -> dict[str, pd.DataFrame]:
    """The tables that are there; none where one of those needed is not, is older, or the first has other records."""
    try:
        tables = {name: pd.read_csv(folder / name, dtype=_TYPES) for name in names if (folder / name).is_file()}
        scores = tables.pop(names[0]).rename(columns={"logprob": "score"})
        counted = scores["n"][[not is_mean(task) for task in scores["task"]]].sum()
        # Tables of earlier versions have other tests, and intervals that are too narrow where tasks have few rows.
        current = all(set(columns) <= set(tables[name]) for name, columns in _COLUMNS.items() if name in tables)
        return {"scores.csv": scores, **tables} if counted == records and needed <= set(tables) and current else {}
    except (ValueError, KeyError):
        return {}


def _count_scores(frame: pd.DataFrame, configuration: dict[str, Any], baselines: list[str]) -> dict[str, pd.DataFrame]:
    needles = frame[frame["task"] == "needle"]
    tables = {
        "scores.csv": scores_table(frame, configuration),
        "table.csv": wide_table(frame, configuration),
        _COMPARISONS: _compared(frame, configuration, baselines),
        "needle.csv": needle_table(needles) if len(needles) else needles,
    }
    return {name: table for name, table in tables.items() if len(table)}


def _count_log_probabilities(
    frame: pd.DataFrame, configuration: dict[str, Any], baselines: list[str]
) -> dict[str, pd.DataFrame]:
    both = {LOWER, UPPER} <= set(configuration["methods"])
    tables = {
        "scores.csv": scores_table(frame, configuration),
        _COMPARISONS: _compared(frame, configuration, baselines),
        "gaps.csv": gaps_table(frame) if both else pd.DataFrame(),
    }
    return {name: table for name, table in tables.items() if len(table)}


def _compared(frame: pd.DataFrame, configuration: dict[str, Any], baselines: list[str]) -> pd.DataFrame:
    tables = [comparisons_table(frame, configuration, each) for each in baselines]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
