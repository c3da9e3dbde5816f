"""Tables of a run, made from its records alone."""

from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.runs.comparisons import choose_baseline, comparisons_table
from cokv_bench.runs.intervals import interval
from cokv_bench.runs.journal import read_records, read_run

_CELL = ["task", "method", "budget"]


def write_tables(folder: Path, baseline: str | None = None) -> dict[str, pd.DataFrame]:
    """Write a run's tables into its folder.

    `scores.csv` and `table.csv` always; `needle.csv` where there are needles; `comparisons.csv` where there are two
    methods to compare at a budget.

    Args:
        baseline: method that the others are compared with; default SnapKV, or the next best known that the run has.

    Returns:
        The tables by file name.

    Raises:
        RequestError: the folder holds no records, or the run has no such baseline.
    """
    records = read_records(folder)
    if not records:
        raise RequestError(f"{folder} holds no records yet, so there is nothing to tabulate.")
    frame = pd.DataFrame(records)
    frame["budget"] = frame["budget"].astype("Int64")
    order = read_run(folder)["configuration"]
    tables = {"scores.csv": scores_table(frame, order), "table.csv": wide_table(frame, order)}
    compared = choose_baseline(order["methods"], baseline)
    comparisons = comparisons_table(frame, order, compared) if compared else pd.DataFrame()
    if len(comparisons):
        tables["comparisons.csv"] = comparisons
    needles = frame[frame["task"] == "needle"]
    if len(needles):
        tables["needle.csv"] = needle_table(needles)
    for name, table in tables.items():
        write_text(folder / name, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    return tables


def scores_table(frame: pd.DataFrame, configuration: dict[str, Any]) -> pd.DataFrame:
    """A row a task, method and budget: mean score in percent with a 95% bootstrap interval over the examples."""
    seed = int(configuration["seed"])
    heads = configuration["model"]["layers"] * configuration["model"]["kv_heads"]
    rows = []
    for (task, method, budget), cell in frame.groupby(_CELL, sort=False, dropna=False):
        scores = 100 * cell["score"].to_numpy(float)
        low, high = interval([scores], seed)
        allowed = cell[["prompt_tokens", "budget"]].min(axis=1)
        rows.append(
            {
                "model": configuration["model"]["id"],
                "method": method,
                "budget": budget,
                "task": task,
                "metric": configuration["tasks"][task]["metric"],
                "n": len(cell),
                "score": scores.mean(),
                "ci_low": low,
                "ci_high": high,
                "prompt_tokens": cell["prompt_tokens"].mean(),
                "kept_tokens": cell["kept_tokens"].mean(),
                "kept_per_head": cell["kept_tokens"].mean() / heads,
                "exact_total": bool((cell["kept_tokens"] == heads * allowed).all()),
                "kv_bytes": cell["kv_bytes"].mean(),
                "new_tokens": cell["new_tokens"].mean(),
                **{name: 100 * cell[name].mean() for name in _extra_scores(cell)},
            }
        )
    return pd.DataFrame(rows)


def _extra_scores(cell: pd.DataFrame) -> list[str]:
    return [name for name in ("word_recall", "rouge_score_l") if name in cell and cell[name].notna().any()]


def wide_table(frame: pd.DataFrame, configuration: dict[str, Any]) -> pd.DataFrame:
    """The papers' shape: a row a method and budget, a column a task, the mean over tasks last (percent)."""
    tasks = [task for task in configuration["tasks"] if (frame["task"] == task).any()]
    means = frame.groupby([*_CELL], dropna=False, sort=False)["score"].mean().mul(100).unstack("task")[tasks]
    means["mean"] = means.mean(axis=1, skipna=False)
    return means.reset_index().sort_values("budget", kind="stable", na_position="first", ignore_index=True)


def needle_table(needles: pd.DataFrame) -> pd.DataFrame:
    """A row a method, budget, length and depth: percent found, and the papers' word recall."""
    groups = needles.groupby(["method", "budget", "length", "depth"], dropna=False, sort=False)
    table = groups.agg(n=("score", "size"), score=("score", "mean"), word_recall=("word_recall", "mean"))
    table[["score", "word_recall"]] *= 100
    return table.reset_index()
