"""The tables of a run: those in its folder where they are of its records, else counted again."""

from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.report.units import PERCENT, Unit
from cokv_bench.runs.comparisons import choose_baseline, comparisons_table
from cokv_bench.runs.gaps import COLUMNS, LOWER, UPPER, gaps_table
from cokv_bench.runs.means import is_mean
from cokv_bench.runs.tables import needle_table, scores_table, wide_table

_TYPES: dict[Any, Any] = {"budget": "Int64", "within_noise": "boolean"}
_OF_SCORES = ("scores.csv", "table.csv", "comparisons.csv", "needle.csv")
_OF_LOG_PROBABILITIES = ("logprobs.csv", "comparisons.csv", "gaps.csv")


def read_tables(
    folder: Path, unit: Unit, records: list[dict[str, Any]], configuration: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """The tables of a run by file name; those that its folder has are read, for counting again takes long.

    Log-probabilities come under the names that scores have: scores.csv is what the folder calls logprobs.csv, its
    column `score` in nats a token.
    """
    if unit is PERCENT:
        found = _read(folder, _OF_SCORES, len(records), {"table.csv"})
        return found or _count_scores(_frame(records), configuration)
    found = _read(folder, _OF_LOG_PROBABILITIES, len(records), {"comparisons.csv", "gaps.csv"})
    # Shares of the gap had no intervals once.
    if found and not set(COLUMNS) <= set(found["gaps.csv"]):
        found = {}
    tables = found or _count_log_probabilities(_frame(records), configuration)
    return tables | {"table.csv": _wide(tables["scores.csv"])}


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
    """The tables that are there; none of them where one of those needed is not, or the first has other records."""
    try:
        tables = {name: pd.read_csv(folder / name, dtype=_TYPES) for name in names if (folder / name).is_file()}
        scores = tables.pop(names[0]).rename(columns={"logprob": "score"})
        counted = scores["n"][[not is_mean(task) for task in scores["task"]]].sum()
        return {"scores.csv": scores, **tables} if counted == records and needed <= set(tables) else {}
    except (ValueError, KeyError):
        return {}


def _count_scores(frame: pd.DataFrame, configuration: dict[str, Any]) -> dict[str, pd.DataFrame]:
    needles = frame[frame["task"] == "needle"]
    tables = {
        "scores.csv": scores_table(frame, configuration),
        "table.csv": wide_table(frame, configuration),
        "comparisons.csv": _compared(frame, configuration),
        "needle.csv": needle_table(needles) if len(needles) else needles,
    }
    return {name: table for name, table in tables.items() if len(table)}


def _count_log_probabilities(frame: pd.DataFrame, configuration: dict[str, Any]) -> dict[str, pd.DataFrame]:
    both = {LOWER, UPPER} <= set(configuration["methods"])
    tables = {
        "scores.csv": scores_table(frame, configuration),
        "comparisons.csv": _compared(frame, configuration),
        "gaps.csv": gaps_table(frame, int(configuration["seed"])) if both else pd.DataFrame(),
    }
    return {name: table for name, table in tables.items() if len(table)}


def _compared(frame: pd.DataFrame, configuration: dict[str, Any]) -> pd.DataFrame:
    baseline = choose_baseline(configuration["methods"], None)
    return comparisons_table(frame, configuration, baseline) if baseline else pd.DataFrame()
