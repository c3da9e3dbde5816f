"""Tables of a run, made from its records alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.runs.checked import tabular
from cokv_bench.runs.journal import read_records, read_run
from cokv_bench.scores.comparisons import choose_baseline, comparisons_table
from cokv_bench.scores.intervals import SCORES, Bounds, interval
from cokv_bench.scores.lengths import lengths_table
from cokv_bench.scores.means import means
from cokv_bench.scores.reference import reference_table
from cokv_bench.tasks.registry import family_of

_CELL = ["task", "method", "budget"]
_COSTS = ["prompt_tokens", "kept_tokens", "kept_per_head", "kv_bytes", "new_tokens"]


def write_tables(folder: Path, baseline: str | None = None, *, reference: str | None = None) -> dict[str, pd.DataFrame]:
    """Write a run's tables into its folder.

    `scores.csv` and `table.csv` always; those of the tasks' benchmarks, such as `needle.csv`; `lengths.csv` where a
    task has several lengths; `comparisons.csv` where there are two methods to compare at a budget; `reference.csv`
    where a reference is named.

    Args:
        baseline: method that the others are compared with; default SnapKV, or the next best known that the run has.
        reference: published scores to put beside the run's: "cokv", "adakv" or a CSV file.

    Returns:
        The tables by file name.

    Raises:
        RequestError: the folder holds no records, the run has no such baseline, or the reference cannot be used; the
            other tables are written before that is known of the reference.
    """
    records = read_records(folder)
    if not records:
        raise RequestError(f"{folder} holds no records yet, so there is nothing to tabulate.")
    frame = pd.DataFrame([tabular(record) for record in records])
    frame["budget"] = frame["budget"].astype("Int64")
    order = read_run(folder)["configuration"]
    tables = {"scores.csv": scores_table(frame, order), "table.csv": wide_table(frame, order)}
    compared = choose_baseline(order["methods"], baseline)
    comparisons = comparisons_table(frame, order, compared) if compared else pd.DataFrame()
    if len(comparisons):
        tables["comparisons.csv"] = comparisons
    tables |= own_tables(frame)
    lengths = lengths_table(frame, order)
    if len(lengths):
        tables["lengths.csv"] = lengths
    for name, table in tables.items():
        _write(folder / name, table)
    if reference is not None:
        tables["reference.csv"] = reference_table(reference, tables, order)
        _write(folder / "reference.csv", tables["reference.csv"])
    return tables


def _write(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def scores_table(frame: pd.DataFrame, configuration: dict[str, Any]) -> pd.DataFrame:
    """A row a task, method and budget: mean score in percent with a 95% interval (see `interval`).

    After them, a row for each mean over tasks (see `means`), method and budget that has all of its tasks: the mean of
    the tasks' means. Its interval is for new examples of the same tasks.
    """
    bounds = SCORES if configuration.get("utility") is None else None
    rows, scores = [], []
    for (task, method, budget), cell in frame.groupby(_CELL, sort=False, dropna=False):
        start = {"model": configuration["model"]["id"], "method": method, "budget": budget, "task": task}
        scores.append(100 * cell["score"].to_numpy(float))
        low, high = interval(scores[-1:], bounds)
        rows.append(
            {
                **start,
                "metric": configuration["tasks"][task]["metric"],
                "n": len(cell),
                "score": scores[-1].mean(),
                "ci_low": low,
                "ci_high": high,
                **_costs(cell, configuration["model"]["layers"] * configuration["model"]["kv_heads"]),
                **{name: 100 * cell[name].mean() for name in _extra_scores(cell)},
            }
        )
    table = pd.DataFrame(rows).astype({"budget": "Int64"})
    added = _mean_rows(table, scores, bounds)
    return pd.concat([table, added], ignore_index=True) if len(added) else table


def _mean_rows(table: pd.DataFrame, scores: list[NDArray[np.float64]], bounds: Bounds | None) -> pd.DataFrame:
    """A row a mean, method and budget that has all of its tasks.

    Args:
        table: a row a task, method and budget.
        scores: of the examples behind each row.
        bounds: of a score.
    """
    rows = []
    groups = table.groupby(["model", "method", "budget"], sort=False, dropna=False)
    cells = [(name, tasks, *cell) for name, tasks in means(table["task"].unique()).items() for cell in groups]
    for name, tasks, (model, method, budget), every in cells:
        parts = every[every["task"].isin(tasks)]
        if len(parts) == len(tasks):
            low, high = interval([scores[row] for row in parts.index], bounds)
            rows.append(
                {
                    "model": model,
                    "method": method,
                    "budget": budget,
                    "task": name,
                    "n": parts["n"].sum(),
                    "score": parts["score"].mean(),
                    "ci_low": low,
                    "ci_high": high,
                    **parts[_COSTS].mean(),
                    "exact_total": bool(parts["exact_total"].all()),
                }
            )
    return pd.DataFrame(rows).astype({"budget": "Int64"}) if rows else pd.DataFrame()


def _costs(cell: pd.DataFrame, heads: int) -> dict[str, Any]:
    """What a method kept of each prompt, and how long its answers were: means over the examples."""
    allowed = cell[["prompt_tokens", "budget"]].min(axis=1)
    return {
        "prompt_tokens": cell["prompt_tokens"].mean(),
        "kept_tokens": cell["kept_tokens"].mean(),
        "kept_per_head": cell["kept_tokens"].mean() / heads,
        "exact_total": bool((cell["kept_tokens"] == heads * allowed).all()),
        "kv_bytes": cell["kv_bytes"].mean(),
        "new_tokens": cell["new_tokens"].mean(),
    }


def _extra_scores(cell: pd.DataFrame) -> list[str]:
    return [name for name in ("word_recall", "rouge_score_l") if name in cell and cell[name].notna().any()]


def wide_table(frame: pd.DataFrame, configuration: dict[str, Any]) -> pd.DataFrame:
    """The papers' shape: a row a method and budget, a column a task, means over tasks last (percent)."""
    tasks = [task for task in configuration["tasks"] if (frame["task"] == task).any()]
    wide = frame.groupby([*_CELL], dropna=False, sort=False)["score"].mean().mul(100).unstack("task")[tasks]
    for name, group in means(tasks).items():
        wide[name] = wide[group].mean(axis=1, skipna=False)
    return wide.reset_index().sort_values("budget", kind="stable", na_position="first", ignore_index=True)


def own_tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The further tables that the benchmarks of a run have, by file name, such as needle.csv."""
    families = {family_of(task).name: family_of(task) for task in frame["task"].unique()}
    names = frame["task"].map(lambda task: family_of(task).name)
    return {
        file: table for name, family in families.items() for file, table in family.tables(frame[names == name]).items()
    }
